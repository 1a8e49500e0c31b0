"""`unified` on captioned digits of scikit-learn, pixel by pixel without loss: minutes on two CPU cores."""

from ml_collections import ConfigDict

from mdlm_jax.configs import base


def get_config() -> ConfigDict:
    config = base.get_config()
    config.objective.name = "unified"
    config.objective.tasks = "joint=0.4,image_given_text=0.3,text_given_image=0.3"
    config.steps = 2000
    config.data.source = "digits"
    config.data.path = "patch=1"
    config.data.sequence_length = 67
    config.model.size = "131k"
    config.model.learned_positions = 67  # a masked image shows relative positions alone
    config.optim.lr = 5e-3
    config.optim.ema = 0.99
    config.train.batch_size = 128
    config.train.checkpoint_every = 0
    config.eval.sequences = 2048  # all 436 that are held out
    config.eval.draws = 16
    config.eval.batch_size = 512
    return config
