"""UniDisc's small study (arXiv 2503.20853): 128 words and 256 image codes a row, V = 32,000 + 8,192, 12 blocks of 768.

The data is a stand-in of the same shape: tokens drawn uniformly, whose entropy is known. Batch, peak learning rate,
weight decay, warm-up, dropout, the weight of masked tokens, and the shares of rows without text or image are theirs.
Differences: the loss of a row without one modality is that of the other alone, and no norm follows attention and MLP.
"""

from ml_collections import ConfigDict

from mdlm_jax.configs import base


def get_config() -> ConfigDict:
    config = base.get_config()
    config.objective.name = "unified"
    config.objective.tasks = "joint=0.9,text=0.05,image=0.05"
    config.objective.weighting = "unidisc"
    config.steps = 500_000
    config.data.source = "uniform"
    config.data.path = "words=32000,text=128,codes=8192,side=16"
    config.data.sequence_length = 384
    config.model.size = "113M"
    config.model.qk_norm = True
    config.model.modality_embedding = True
    config.model.dropout = 0.1
    config.optim.lr = 3e-4
    config.optim.weight_decay = 0.05
    config.optim.warmup_share = 0.01  # 5,000 steps
    config.train.batch_size = 512
    config.train.compute_dtype = "bfloat16"
    config.train.scan_layers = True
    config.train.remat = "dots"
    return config
