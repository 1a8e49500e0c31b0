"""Muddit's recipe (arXiv 2505.23606) on captioned shapes: text given image or image given text, cosine, weight 1 / m.

The weight of the bound instead: --config.objective.weighting=bound.
"""

from ml_collections import ConfigDict

from mdlm_jax.configs import unified_shapes


def get_config() -> ConfigDict:
    config = unified_shapes.get_config()
    config.objective.tasks = "image_given_text=0.5,text_given_image=0.5"
    config.objective.text_schedule = "cosine"
    config.objective.image_schedule = "cosine"
    config.objective.weighting = "muddit"
    return config
