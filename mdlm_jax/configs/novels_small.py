"""Small networks on English novels, for the experiments that two CPU cores can do.

Bytes in rows of 64, from 87 novels in the public domain (github.com/computationalstylistics/100_english_novels), four
of which are held out. The corpus is built once:

    mdlm-jax data build --source text --path 'train/*.txt' --validation-path 'valid/*.txt' --out runs/novels
"""

from ml_collections import ConfigDict

from mdlm_jax.configs import quickstart


def get_config() -> ConfigDict:
    config = quickstart.get_config()
    config.data.source = "tokens"
    config.data.path = "runs/novels"
    config.data.sequence_length = 64
    config.train.batch_size = 8
    config.eval.draws = 16
    return config
