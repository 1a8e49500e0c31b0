"""Which options of `evaluate` fit together. It imports no JAX, so a wrong command ends at once."""

import pathlib
from typing import Any

from ml_collections import ConfigDict

from mdlm_jax.errors import UserError
from mdlm_jax.evaluation.order_numbers import check_orders

WITH = {name: "pairs" for name in ("guidance", "prompt_field", "answer_field")}  # an option -> what it needs
WITH |= {"protocol": "path", "detokenize": "protocol"}
CORPUS = ("data", "source", "validation_path", "sequences", "clip")
TIGHT = ("likelihood", "orders")
WITHOUT = {
    "path": ("pairs", *CORPUS),
    "pairs": (*CORPUS, "field", "length"),
    "classify": ("path", "pairs", "clip", *TIGHT, *CORPUS[:3], "field", "length"),
    "retrieve": ("classify", "path", "pairs", "clip", *TIGHT, *CORPUS[:3], "field", "length"),
    "neighbours": ("retrieve", "classify", "path", "pairs", "clip", *TIGHT, *CORPUS[:3], "field", "length", "draws"),
    "clip": (*TIGHT, *CORPUS[:3], "field", "length", "out"),
}  # an option -> those that it leaves without effect
ELBO = "elbo"  # the name of what an objective with a bound reports
# what each is a likelihood of: a sampler that unmasks one token at a time and draws it from the network's distribution
LIKELIHOODS = {
    "orders": "the sampler that unmasks one token at a time, each order equally likely",
    "left_to_right": "the sampler that unmasks one token at a time, from left to right",
    "confidence": "the sampler that unmasks one token at a time, first where its likeliest token is most probable",
}


def refuse_mixed(options: dict[str, Any]) -> None:
    """Refuses options that another one leaves without effect.

    Args:
        options: Values by name; None, False or no entry where an option is not given.

    Raises:
        UserError: Two of the options do not go together.
    """
    given = {name: value for name, value in options.items() if value is not None and value is not False}
    for name, needed in WITH.items():
        if name in given and needed not in given:
            raise UserError(f"{_flag(name)}={given[name]}; accepted: with {_flag(needed)}")
    for chosen, others in WITHOUT.items():
        for other in others:
            if chosen in given and other in given:
                raise UserError(f"{_flag(chosen)} with {_flag(other)}; accepted: one of the two")


def check_likelihood(name: str | None, draws: int | None, orders: int | None) -> None:
    """Checks the name of a likelihood, and that the numbers belong to it.

    Args:
        name: A key of LIKELIHOODS, elbo, or None.
        draws: The noise draws that are asked for, if any.
        orders: The random orders that are asked for, if any.

    Raises:
        UserError: There is no such likelihood, or a number does not fit it.
    """
    if name is not None and name != ELBO and name not in LIKELIHOODS:
        raise UserError(f"--likelihood={name}; accepted: {', '.join((ELBO, *LIKELIHOODS))}")
    if draws is not None and name in LIKELIHOODS:
        raise UserError(f"--draws={draws} with --likelihood={name}; accepted: one of the two")
    if orders is not None and name != "orders":
        raise UserError(f"--orders={orders}; accepted: with --likelihood=orders")
    if orders is not None:
        check_orders(orders)


def check_classify(config: ConfigDict | None, folder: pathlib.Path, draws: int | None) -> None:
    """Refuses to classify what is no run of `unified` on digits.

    Args:
        config: The config of the run; None for a public model.
        folder: The run's folder.
        draws: Noise draws for each caption; None for the run's `eval.draws`.

    Raises:
        UserError: It is another run, or the draws are no even number.
    """
    _check_unified("--classify", config, folder, "digits")
    _check_draws("--classify", config, folder, draws)


def check_retrieve(config: ConfigDict | None, folder: pathlib.Path, choices: int, draws: int | None) -> None:
    """Refuses retrieval with what is no run of `unified`, an odd number of draws, or fewer than two choices.

    Args:
        config: As in `check_classify`.
        folder: As in `check_classify`.
        choices: Images that a caption is to be found among.
        draws: As in `check_classify`.

    Raises:
        UserError: One of these.
    """
    if choices < 2:
        raise UserError(f"--retrieve={choices}; accepted: 2 or more")
    _check_unified("--retrieve", config, folder)
    _check_draws("--retrieve", config, folder, draws)


def check_neighbours(config: ConfigDict | None, folder: pathlib.Path) -> None:
    """Raises UserError for what is no run of `unified`."""
    _check_unified("--neighbours", config, folder)


def _check_unified(option: str, config: ConfigDict | None, folder: pathlib.Path, source: str = "") -> None:
    found = "a public model" if config is None else f"a run of {config.objective.name} on {config.data.source}"
    if config is None or config.objective.name != "unified" or config.data.source != (source or config.data.source):
        raise UserError(f"{option}: {folder} is {found}; accepted: a run of unified on {source or 'text and images'}")


def _check_draws(option: str, config: ConfigDict, folder: pathlib.Path, draws: int | None) -> None:
    given = f"--draws={draws}" if draws is not None else f"config.eval.draws of {folder} is {config.eval.draws}"
    draws = config.eval.draws if draws is None else draws
    if draws < 2 or draws % 2:
        raise UserError(f"{given}; accepted with {option}: an even number of --draws, 2 or more")


def check_length(config: ConfigDict, length: int | None) -> None:
    """Raises UserError if a run's network was not trained on rows of this length. None stands for its own length."""
    most = config.data.sequence_length
    if length is not None and (not 1 <= length <= most or (config.objective.block_size and length != most)):
        accepted = f"1 to {most}" if not config.objective.block_size else f"{most}, the length of its training rows"
        raise UserError(f"--length={length}; accepted: {accepted}")


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
