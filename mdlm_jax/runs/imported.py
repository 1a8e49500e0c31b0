"""A folder with a public model, as the network of a run that was never trained here."""

import pathlib
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from mdlm_jax.build.network import Network, network
from mdlm_jax.data.tokenizer import open_tokenizer
from mdlm_jax.errors import UserError
from mdlm_jax.runs.model_config import config_described
from mdlm_jax.weights.description import Description
from mdlm_jax.weights.load import load_params
from mdlm_jax.weights.source import open_source


class Imported(NamedTuple):
    """A public model as a run has it."""

    config: ConfigDict  # what a run with this network would have been configured with
    network: Network
    params: Any
    suppress: tuple[int, ...]  # tokens that sampling never draws


def open_imported(folder: pathlib.Path, padded: bool = False) -> Imported:
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
    tokenizer = open_tokenizer(folder)
    config = config_described(source.description, folder)
    rows = source.description.architecture.vocab_size
    if tokenizer.vocab_size > rows:
        raise UserError(
            f"{folder}: tokenizer.json has {tokenizer.vocab_size} tokens; accepted: at most the model's {rows}"
        )
    net = network(config, tokenizer=tokenizer, vocab_size=rows, padded=padded)
    assert net.model.architecture == source.description.architecture
    suppress = _never_drawn(source.description, tokenizer.vocab_size)
    return Imported(config, net, load_params(source, net.model), suppress)


def _never_drawn(description: Description, known: int) -> tuple[int, ...]:
    """The mask, where it is a token of the vocabulary, and the rows of the embedding behind the tokenizer's tokens.

    Only sampling leaves them out. LLaDA's likelihood keeps the mask's logit in its softmax (arXiv 2502.09992,
    `get_log_likelihood.py`). That is a bound too, looser by -log(1 - p(mask)) nats a token.
    """
    mask_id = () if description.mask_id is None else (description.mask_id,)
    return tuple(sorted({*mask_id, *range(known, description.architecture.vocab_size)}))
