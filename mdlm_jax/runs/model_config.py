"""The config of a run with the network of a public model. It imports no JAX, so a wrong command ends at once."""

import pathlib

from ml_collections import ConfigDict

from mdlm_jax.configs import base
from mdlm_jax.weights.description import Description
from mdlm_jax.weights.source import open_source

LONGEST = 8192  # tokens of a row; for longer rows it takes long to count the pairs that attend
BATCH_SIZE = 8  # sequences evaluated at once, or in a step of fine-tuning
FINE_TUNING_RATE = 2e-5  # LLaDA's and Dream's in dllm


def config_of_model(folder: pathlib.Path) -> ConfigDict:
    """The config of a run that continues a public model with its own objective and tokenizer.

    Args:
        folder: The public model's.

    Raises:
        UserError: The folder is damaged, or its network cannot be trained here.
    """
    config = config_described(open_source(folder).description, folder)
    config.start_from = str(folder.resolve())
    config.optim.lr = FINE_TUNING_RATE
    config.train.batch_size = BATCH_SIZE
    return config


def config_described(description: Description, folder: pathlib.Path) -> ConfigDict:
    """The config of a run that would have this network."""
    config, architecture = base.get_config(), description.architecture
    config.objective.name = description.objective
    config.objective.block_size = description.block_size
    config.objective.shift = description.shift
    for name, value in description.keys.items():
        config.objective[name] = value
    config.model.size = ""
    for name, value in architecture._asdict().items():
        if name in config.model:
            config.model[name] = value
    # a network from elsewhere has no start symbol: the first token of a row is only read
    config.data.extra_token = description.objective == "ar"
    config.data.prompt_tokens = int(description.shift)
    longest = min(description.context, LONGEST)
    config.data.sequence_length = longest - longest % max(description.block_size, 1)
    config.data.tokenizer = str(folder.resolve())
    config.eval.batch_size = BATCH_SIZE
    return config
