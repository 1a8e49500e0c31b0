"""OpenWebText in 1,024 GPT-2 tokens, as MDLM (arXiv 2406.07524) trains it: GPT-2 small's size, 1M steps of 512.

    mdlm-jax data build --out openwebtext --source text --path 'owt/*.parquet' --tokenizer gpt2
    mdlm-jax train --run runs/owt --config configs/owt.py

`gpt2` is a folder with GPT-2's encoder.json and vocab.bpe.

Published perplexities on held-out OpenWebText: AR 17.54, MDLM <= 22.98, SEDD <= 24.10. MDLM's code also carries an
unused time embedding (7.4M parameters); this model has none.
"""

from ml_collections import ConfigDict

from mdlm_jax.configs import base


def get_config() -> ConfigDict:
    config = base.get_config()
    config.steps = 1_000_000
    config.objective.epsilon_convention = "mdlm"
    config.data.source = "tokens"
    config.data.path = "openwebtext"
    config.data.tokenizer = "gpt2"
    config.model.vocab_size = 50_257
    config.data.sequence_length = 1024
    config.model.size = ""
    config.model.layers = 12
    config.model.width = 768
    config.model.heads = 12
    config.model.key_value_heads = 12
    config.model.mlp_width = 3072
    config.model.mlp = "gelu"
    config.model.norm = "layernorm"
    config.model.dropout = 0.1
    config.optim.lr = 3e-4
    config.optim.decay = "constant"
    config.optim.beta_2 = 0.999
    config.optim.weight_decay = 0.0
    config.optim.warmup_min = 2500
    config.optim.warmup_share = 0.0
    config.optim.ema = 0.9999
    config.train.batch_size = 512
    config.train.compute_dtype = "bfloat16"
    config.train.scan_layers = True
    config.train.attention = "library"
    config.train.validate_every = 10_000
    config.train.checkpoint_every = 5_000
    config.eval.sequences = 1024
    config.eval.draws = 16
    return config
