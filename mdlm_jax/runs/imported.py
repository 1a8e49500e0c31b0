"""A folder with a public model, as the network of a run that was never trained here."""

import pathlib
from typing import Any

from ml_collections import ConfigDict

from mdlm_jax.build.network import Network, network
from mdlm_jax.configs import base
from mdlm_jax.data.tokenizer import open_tokenizer
from mdlm_jax.errors import UserError
from mdlm_jax.weights.description import Description
from mdlm_jax.weights.load import load_params
from mdlm_jax.weights.source import open_source

LONGEST = 8192  # tokens of a row; for longer rows it takes long to count the pairs that attend
BATCH_SIZE = 8  # sequences evaluated at once


def open_imported(folder: pathlib.Path, padded: bool = False) -> tuple[ConfigDict, Network, Any]:
    """The config that describes a public model, its network and its parameters.

    Args:
        folder: The public model's.
        padded: Whether rows may have padding.

    Raises:
        UserError: The folder is damaged, or its model cannot be sampled and evaluated as a run is.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: a single file; accepted: the folder that mdlm-jax convert makes of it")
    source = open_source(folder)
    if source.description.shift:
        raise UserError(f"{folder}: a model of shifted predictions without trained blocks; accepted: load_weights")
    tokenizer = open_tokenizer(folder)
    config = _config(source.description, folder)
    rows = source.description.architecture.vocab_size
    if tokenizer.vocab_size > rows:
        raise UserError(
            f"{folder}: tokenizer.json has {tokenizer.vocab_size} tokens; accepted: at most the model's {rows}"
        )
    net = network(config, tokenizer=tokenizer, vocab_size=rows, padded=padded)
    assert net.model.architecture == source.description.architecture
    return config, net, load_params(source, net.model)


def _config(description: Description, folder: pathlib.Path) -> ConfigDict:
    """The config of a run that would have this network."""
    config, architecture = base.get_config(), description.architecture
    config.objective.name = description.objective
    config.objective.block_size = description.block_size
    config.model.size = ""
    for name, value in architecture._asdict().items():
        if name != "input_width":
            config.model[name] = value
    # a network from elsewhere has no start symbol: the first token of a row is only read
    config.data.extra_token = description.objective == "ar"
    longest = min(description.context, LONGEST)
    config.data.sequence_length = longest - longest % max(description.block_size, 1)
    config.data.tokenizer = str(folder.resolve())
    config.eval.batch_size = BATCH_SIZE
    return config
