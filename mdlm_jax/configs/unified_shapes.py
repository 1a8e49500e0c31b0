"""`unified` on captioned shapes, whose entropies are known exactly: a few minutes on two CPU cores."""

from ml_collections import ConfigDict

from mdlm_jax.configs import base


def get_config() -> ConfigDict:
    config = base.get_config()
    config.objective.name = "unified"
    config.objective.tasks = "joint=0.6,image_given_text=0.2,text_given_image=0.2"
    config.steps = 3000
    config.data.source = "shapes"
    config.data.path = "patch=2"
    config.data.sequence_length = 13
    config.model.size = "131k"
    config.model.learned_positions = 13  # a masked image shows relative positions alone
    config.optim.lr = 5e-3
    config.optim.ema = 0.99
    config.train.batch_size = 128
    config.train.checkpoint_every = 0
    config.eval.sequences = 2048
    config.eval.draws = 16
    config.eval.batch_size = 512
    return config
