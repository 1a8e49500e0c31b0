"""OpenWebText in 1,024 GPT-2 tokens, as MDLM (arXiv 2406.07524) trains it: GPT-2 small's size, 1M steps of 512.

    mdlm-jax data build --out openwebtext --source text --path 'owt/*.parquet' --tokenizer gpt2
    mdlm-jax train --run runs/owt --config configs/owt.py

`gpt2` is a folder with GPT-2's encoder.json and vocab.bpe.

Published perplexities on held-out OpenWebText: AR 17.54, MDLM <= 22.98, SEDD <= 24.10. MDLM's code also carries an
unused time embedding (7.4M parameters); this model has none.
"""

from ml_collections import ConfigDict

from mdlm_jax.configs import million_steps


def get_config() -> ConfigDict:
    config = million_steps.get_config()
    config.objective.epsilon_convention = "mdlm"
    config.data.source = "tokens"
    config.data.path = "openwebtext"
    config.data.tokenizer = "gpt2"
    config.model.vocab_size = 50_257
    config.data.sequence_length = 1024
    config.model.mlp_width = 3072
    config.model.mlp = "gelu"
    config.model.norm = "layernorm"
    config.model.dropout = 0.1
    config.optim.decay = "constant"
    config.optim.weight_decay = 0.0
    config.optim.warmup_min = 2500
    config.eval.sequences = 1024
    return config
