"""SMDM (arXiv 2410.18514): masked diffusion against AR on SlimPajama, 2,048 tokens, one learning rate for all sizes.

    mdlm-jax data build --out slimpajama --source text --path 'SlimPajama/*.jsonl' --tokenizer llama2.json
    mdlm-jax train --run runs/smdm-170M --config configs/smdm.py

`llama2.json` is Llama 2's tokenizer as a `tokenizers` file, 32,000 tokens.

170M at 6e18 FLOPs: 11,226 steps, 5.9B tokens; published optimum at that budget: 3.374 nats (masked), 2.846 (AR).
The paper says 4e-4 -> 4e-5, its code 2e-4 -> 2e-5; this is the paper's. Weight decay falls on every parameter.
"""

from ml_collections import ConfigDict

from mdlm_jax.configs import base


def get_config() -> ConfigDict:
    config = base.get_config()
    config.budget = 6e18
    config.budget_counter = "six_nonembedding"
    config.objective.epsilon_convention = "smdm"
    config.objective.independent_times = True
    config.data.source = "tokens"
    config.data.path = "slimpajama"
    config.data.tokenizer = "llama2.json"
    config.data.sequence_length = 2048
    config.data.extra_token = True
    config.model.size = "170M"
    config.model.vocab_size = 32_000
    config.optim.lr = 4e-4
    config.optim.warmup_min = 100
    config.optim.decay_everything = True
    config.train.batch_size = 256
    config.train.compute_dtype = "bfloat16"
    config.train.scan_layers = True
    config.train.remat = "dots"
    config.train.attention = "library"
    config.eval.sequences = 1024
    config.eval.draws = 16
    return config
