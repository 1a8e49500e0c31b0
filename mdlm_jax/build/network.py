"""The network, objective and tokenizer of a config: all that sampling and evaluation need, without a corpus."""

from typing import NamedTuple

from jax.sharding import Mesh
from ml_collections import ConfigDict

from mdlm_jax.build.described import noise_level_of
from mdlm_jax.build.plan import COMPUTE_DTYPES, Plan, plan
from mdlm_jax.data.captioned import CAPTIONED, layout_of
from mdlm_jax.data.markov import parse_markov
from mdlm_jax.data.tokenizer import Tokenizer, open_tokenizer, state_tokenizer
from mdlm_jax.models.lora import Lora, with_adapters
from mdlm_jax.models.transformer import Execution, Model, transformer
from mdlm_jax.objectives import Objective


class Network(NamedTuple):
    """A network with what gives its tokens a meaning."""

    plan: Plan
    model: Model
    validation_model: Model  # without 8-bit products, whose scales are shared by all rows of a batch
    objective: Objective
    vocab_size: int  # V of the network; the tokenizer may have fewer tokens
    tokenizer: Tokenizer


def network(
    config: ConfigDict,
    mesh: Mesh | None = None,
    tokenizer: Tokenizer | None = None,
    vocab_size: int | None = None,
    padded: bool = False,
) -> Network:
    """The network that a config describes.

    Args:
        config: A config with the keys of configs/base.py.
        mesh: The devices that the network is split over; None for one device.
        tokenizer: The run's own, where it keeps one; by default the one that the config names.
        vocab_size: V of the network, where it is known; by default as configured, or that of the tokenizer.
        padded: Whether rows may have padding, though those of training have none.

    Raises:
        UserError: As `plan` does.
    """
    vocab_size = vocab_size or config.model.vocab_size or (tokenizer.vocab_size if tokenizer else None)
    planned = plan(config, vocab_size)
    tokenizer = tokenizer or tokenizer_of(config)
    execution = Execution(
        compute_dtype=COMPUTE_DTYPES[config.train.compute_dtype],
        float8=config.train.float8,
        scan_layers=config.train.scan_layers,
        remat=config.train.remat,
        attention=config.train.attention,
        use_segments=padded
        or config.data.keep_documents
        or config.data.source == "chat"
        or config.data.random_length_rate > 0,
        mesh=mesh if config.train.runner == "jit" and mesh is not None and mesh.size > 1 else None,
    )
    level = noise_level_of(config)
    model = validation = transformer(planned.architecture, execution, level)
    if execution.float8:
        validation = transformer(planned.architecture, execution._replace(float8=False), level)
    if (lora := lora_of(config)) is not None:
        model, validation = with_adapters(model, lora), with_adapters(validation, lora)
    vocab_size = planned.architecture.vocab_size
    return Network(planned, model, validation, planned.objective, vocab_size, tokenizer)


def lora_of(config: ConfigDict) -> Lora | None:
    """The adapters that a config describes; None where it has none."""
    m = config.model
    return Lora(tuple(m.lora_matrices.split(",")), m.lora_rank, m.lora_alpha) if m.lora_rank else None


def tokenizer_of(config: ConfigDict) -> Tokenizer:
    """The tokenizer that a config names; that of a synthetic source writes its states as numbers."""
    if config.data.source == "markov":
        return state_tokenizer(parse_markov(config.data.path)[0])
    if config.data.source in CAPTIONED:
        return layout_of(config.data.source, config.data.path).tokenizer()
    return open_tokenizer(config.data.tokenizer)
