"""The two functions that make an objective, and the types that pass between them.

An objective says how to look at a sequence (`view`) and how to score logits (`token_loss`). The network, the optimiser,
the data order, the noise keys and the accounting are shared, so that when two loss curves differ the objective is the
only thing that differed.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mdlm_jax.data import Example
from mdlm_jax.processes.base import Process

MaskFn = Callable[[Int[Array, "*n"], Int[Array, "*n"]], Array]  # (query position, key position) -> may it look?


class View(NamedTuple):
    """One corrupted example as the network meets it. N positions are read, the first M <= N of them are scored."""

    tokens: Int[Array, "*k N"]  # what the network reads; V is the mask
    targets: Int[Array, "*k M"]  # what it should say
    weight: Float[Array, "*k M"]  # nats multiplier; 0 where nothing is scored
    t: Float[Array, "*k T"]  # noise level, for networks that are told it: T = 1 for the whole view, or one a position
    positions: Int[Array, "*k N P"]  # rotary coordinates of a position as a query
    key_positions: Int[
        Array, "*k N P"
    ]  # and as a key; they differ where a position reads one token and predicts another
    segments: Int[Array, "*k N"]  # attention stays inside a segment; 0 is padding
    constant: Float[Array, "*k"]  # nats that need no network
    noisy: Float[Array, "*k N d"] | None = None  # vectors read instead of the tokens: Gaussian noise of embeddings


class Parameterization(NamedTuple):
    """What a network trained by an objective says of a position that holds z at t, and how to read it.

    With it the exact toy distribution knows the best logits, and the samplers of a process know the way back.
    """

    process: Process
    logits: Callable[
        ..., Array
    ]  # (distribution f32[*n V] of x_0 given all OTHER positions, z, t) -> the best network's logits
    log_ratio: Callable[..., Array]  # (logits, z, t) -> f32[*n S]: log of p_t(y here) / p_t(z here)
    probs: Callable[..., Array]  # (logits, z, t) -> f32[*n V]: the distribution above
    scores: Callable  # (logits, x, z, t) -> closed_form.Scores: the same ratios, summed; for processes that mix


class Objective(NamedTuple):
    """How to look at a sequence and how to score logits. `objective_params` holds the objective's own parameters, ()
    for most.

    Gradients reach `objective_params` through `token_loss`, `surrogate`, and a view's `constant` and `noisy`; the rest
    of a view is given.
    """

    view: Callable[
        ..., View
    ]  # (objective_params, key, example, u in [0, 1)) -> View with a leading axis K; their mean counts
    token_loss: Callable[..., Array]  # (objective_params, logits f32[..., V], view) -> nats f32[...]
    mask: MaskFn
    bound: str  # how its mean nats relate to -log p(x): 'exact' | 'upper' | 'none'
    estimator: str  # of that mean, as results name it
    evaluate: "Objective | None" = None  # what is reported, where it is not the loss that is trained
    init: Callable[[Array], Any] = lambda key: ()  # key -> objective_params
    surrogate: Callable[..., Array] | None = (
        None  # (objective_params, nats f32[K], view) -> 0, with the gradient that the draw adds
    )
    parameterization: Callable[[Any], Parameterization] | None = (
        None  # objective_params -> Parameterization; None where a position is no noised token (ar)
    )
    num_steps: int = 0  # T of a discrete time, whose best bound is above H(x) by about C / T; 0: continuous
    timed: bool = False  # the best network is not the same at all t: it has to be told
    inputs: int = 0  # d of `noisy`
    views: int = 1  # K
    coordinates: int = 1  # P


def full(query: Array | np.ndarray, key: Array | np.ndarray) -> Array | np.ndarray:
    """Every position sees every position."""
    return query == query


def causal(query: Array | np.ndarray, key: Array | np.ndarray) -> Array | np.ndarray:
    """A position sees itself and what came before."""
    return key <= query


def cross_entropy(objective_params: Any, logits: Float[Array, "*n V"], view: View) -> Float[Array, "*n"]:
    """-weight log softmax(logits)[target], in nats."""
    # a masked sum instead of a gather: its gradient is a select that fuses, not a scatter into [.., V]
    is_target = jnp.arange(logits.shape[-1]) == view.targets[..., None]
    target = jnp.where(is_target, logits, 0).sum(axis=-1)
    return view.weight * (jax.nn.logsumexp(logits, axis=-1) - target)


def loss_mask(example: Example) -> Bool[Array | np.ndarray, "*b L"]:
    """Which tokens are noised and scored: neither padding nor given. Every loss is per one of these."""
    return (example.segments > 0) & ~example.prompt_mask
