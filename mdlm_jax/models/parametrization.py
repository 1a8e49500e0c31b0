"""How initial weights, learning rates and multipliers change with width and depth, so that tuned rates transfer.

A network is compared with a base shape. m is its width over the base width, l its depth over the base depth. Every
rule is a power of m and l, so at the base shape all of them are 1 and the network is the standard one. The standard
network draws matrices with a variance of 1 / width already; what is left to change is in `Rule`.

References: muP, arXiv 2203.03466, table 8; CompleteP with alpha = 1, arXiv 2505.01618, table 1.
"""

from typing import Any, NamedTuple

import jax

from mdlm_jax.models.architecture import Architecture
from mdlm_jax.models.layout import names_of

HIDDEN = ("query", "key", "value", "attention_out", "gate", "up", "down")  # modules whose kernels are width by width
OUT = ("attention_out", "down")  # modules that write to the residual stream
FROM_TOKENS = ("embedding", "positions", "modalities")
OF_TIME = ("time_in", "time_out", "head_bias")  # their sizes and gradients do not depend on the width
FOLDED = "folded"  # marks parameters that are multiplied already


class Rule(NamedTuple):
    """What a parametrization multiplies for one array of parameters."""

    deviation: float = 1.0  # its initial standard deviation
    rate: float = 1.0  # Adam's learning rate; weight decay is divided by it, so that their product stays
    orthogonal_rate: float = 1.0  # the learning rate of an orthogonalised update whose entries have a constant size
    epsilon: float = 1.0  # Adam's epsilon, in proportion to the gradient
    weight: float = 1.0  # the array itself where the network uses it


def rule_of(architecture: Architecture, names: tuple[str, ...]) -> Rule:
    """The rule of an array.

    Args:
        architecture: The network, with its parametrization and base shape.
        names: The names on the path to the array, such as (blocks, query, kernel).
    """
    a = architecture
    if a.parametrization == "standard":
        return Rule()
    wide = a.width / a.base_width
    deep = a.layers / a.base_layers if a.parametrization == "completep" else 1.0
    (room, module), leaf = names[:2], names[-1]
    if room == "ends":
        drawn = wide**0.5 if module in (*FROM_TOKENS, "head") else 1.0
        return Rule(deviation=drawn, epsilon=1.0 if module in OF_TIME else 1 / wide)
    rule = Rule(epsilon=1 / (wide * deep))
    if module in HIDDEN and leaf == "kernel":
        # Adam's update is of rank one and grows with m, an orthogonal one has full rank and grows with its root
        rule = rule._replace(rate=1 / wide, orthogonal_rate=wide**-0.5)
    if module in OUT:
        # the standard network divides by its layers at the start, CompleteP by the base's, and each branch by l
        rule = rule._replace(weight=1 / deep, deviation=deep)
    if module == ("query_norm" if a.qk_norm else "query"):
        # scores over the width d of a head instead of over its root; they agree at the base's width of a head
        rule = rule._replace(weight=(a.base_head_width / a.head_width) ** 0.5)
    return rule


def output_multiplier(architecture: Architecture) -> float:
    """The factor of the logits, before their bias: 1 / m."""
    return 1.0 if architecture.parametrization == "standard" else architecture.base_width / architecture.width


def drawn(architecture: Architecture, params: Any) -> Any:
    """Initial parameters of the standard network, with the deviations of this parametrization."""
    return _multiplied(architecture, params, "deviation")


def folded(architecture: Architecture, params: Any) -> Any:
    """The parameters as the network uses them; those that are folded already are returned as they are."""
    if architecture.parametrization == "standard" or FOLDED in params:
        return params
    return {**_multiplied(architecture, params, "weight"), FOLDED: ()}


def _multiplied(architecture: Architecture, params: Any, field: str) -> Any:
    def multiplied(path, leaf):
        factor = getattr(rule_of(architecture, names_of(path)), field)
        return leaf if factor == 1 else factor * leaf

    return jax.tree.map_with_path(multiplied, params)
