"""Parameters that are not trained, by the patterns of their names."""

import fnmatch
from collections.abc import Sequence
from typing import Any

import jax
import optax

from mdlm_jax.errors import UserError
from mdlm_jax.models.layout import names_of


def name_of(path: tuple) -> str:
    """The name of a leaf of the network's parameters, such as blocks/query/kernel."""
    return "/".join(names_of(path))


def is_frozen(params: Any, patterns: Sequence[str]) -> Any:
    """For each leaf of the network's parameters, whether a pattern matches its name.

    >>> is_frozen({"blocks": {"up": 1}, "ends": {"head": 2}}, ["ends/*"])
    {'blocks': {'up': False}, 'ends': {'head': True}}
    """

    def matches(path, leaf) -> bool:
        return any(fnmatch.fnmatchcase(name_of(path), pattern) for pattern in patterns)

    return jax.tree.map_with_path(matches, params)


def check_patterns(params: Any, patterns: Sequence[str]) -> None:
    """Compares patterns with the names of parameters.

    Raises:
        UserError: A pattern matches none, or together they match all.
    """
    names = [name_of(path) for path, _ in jax.tree.leaves_with_path(params)]
    for pattern in patterns:
        if not fnmatch.filter(names, pattern):
            raise UserError(f"config.optim.freeze has {pattern!r}; accepted: a pattern of names such as {names[0]}")
    if all(jax.tree.leaves(is_frozen(params, patterns))):
        raise UserError(
            f"config.optim.freeze is {','.join(patterns)!r}; accepted: patterns that leave something to train"
        )


def without_gradient(params: Any, patterns: Sequence[str]) -> Any:
    """The same parameters, the frozen ones without a gradient."""
    if not patterns:
        return params
    return jax.tree.map(
        lambda frozen, leaf: jax.lax.stop_gradient(leaf) if frozen else leaf, is_frozen(params, patterns), params
    )


def only_trained(optimizer: optax.GradientTransformation, patterns: Sequence[str]) -> optax.GradientTransformation:
    """An optimiser of (parameters of the network, the objective's own) that keeps no state for the frozen ones.

    Args:
        optimizer: The optimiser of what is trained.
        patterns: Of names of the network's parameters; none returns `optimizer`.
    """
    if not patterns:
        return optimizer

    def labels(trainable: Any) -> Any:
        params, own = trainable
        kinds = jax.tree.map(lambda frozen: "frozen" if frozen else "trained", is_frozen(params, patterns))
        return kinds, jax.tree.map(lambda _: "trained", own)

    return optax.multi_transform({"trained": optimizer, "frozen": optax.set_to_zero()}, labels)
