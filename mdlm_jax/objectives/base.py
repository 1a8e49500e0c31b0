"""What an objective is: a view of a sequence, a loss of the logits, and the types that pass between them.

The network, the optimiser, the data order, the noise keys and the accounting are shared by all objectives. When two
loss curves differ, the objective is the only thing that differed.
"""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mdlm_jax.data import Example
from mdlm_jax.processes.base import Process


class View(NamedTuple):
    """One corrupted example as the network reads it: N positions, of which the first M <= N have a loss.

    A view function returns a leading axis K of views; a loss or a network may see it with other leading axes.
    """

    tokens: Int[Array, "*k N"]  # what the network reads; V is the mask
    targets: Int[Array, "*k M"]  # the clean tokens that it predicts
    weight: Float[Array, "*k M"]  # factor of the nats; 0 where there is no loss
    t: Float[Array, "*k T"]  # noise level in [0, 1], for time conditioning: T is 1 (the whole view) or N
    positions: Int[Array, "*k N P"]  # rotary coordinates of a position as a query
    # .. and as a key; they differ where a position reads one token and predicts another
    key_positions: Int[Array, "*k N P"]
    segments: Int[Array, "*k N"]  # attention stays inside a segment; 0 is padding
    constant: Float[Array, "*k"]  # nats that depend on no network
    noisy: Float[Array, "*k N d"] | None = None  # vectors read instead of tokens: Gaussian noise on embeddings
    opened: Bool[Array, "*k N N"] | None = None  # pairs (query, key) that may attend, of those that the mask allows
    read_at: Int[Array, "*k M"] | None = None  # the position that predicts each target; None: the first M, in order


class Part(NamedTuple):
    """The targets from one on, up to the next part, and their ids: they need the logits of these ids alone."""

    start: int  # the first target of the part
    ids: tuple[int, int]  # the first id, and the one after the last


@runtime_checkable
class MaskFn(Protocol):
    """Which positions attend to which."""

    def __call__(self, query: Any, key: Any, /) -> Any:
        """Whether a query position may attend to a key position.

        Args:
            query: Positions in the view, Int[*n], of JAX or NumPy.
            key: Positions in the view, Int[*n]; the two broadcast.

        Returns:
            Bool[*n].
        """
        ...


@runtime_checkable
class ViewFn(Protocol):
    """How an objective corrupts an example."""

    def __call__(self, objective_params: Any, key: Array, example: Example, u: Float[Array, ""], /) -> View:
        """The views of one example.

        Args:
            objective_params: The objective's own parameters, as `Objective.init` makes them.
            key: The key of this example and step. All randomness but u comes from it.
            example: One row of L tokens.
            u: Uniform in [0, 1) and stratified over the batch: use it for the noise level.

        Returns:
            A View whose fields have a leading axis K. The loss of the example is the mean over K.
        """
        ...


@runtime_checkable
class TokenLossFn(Protocol):
    """How an objective scores logits."""

    def __call__(self, objective_params: Any, logits: Float[Array, "*n V"], view: View, /) -> Float[Array, "*n"]:
        """The loss of each position, in nats, with `view.weight` as a factor.

        It must act on each position by itself: training calls it on chunks of positions.

        Args:
            objective_params: The objective's own parameters.
            logits: Logits of the V tokens at the positions of `view.targets`; in a part of the row, those of its ids,
                and then targets count from its first id.
            view: The view, its leading axes as those of the logits. Fields of one number per view stay so.

        Returns:
            Nats per position. Their sum and `view.constant` make the loss of the view.
        """
        ...


@runtime_checkable
class SurrogateFn(Protocol):
    """The gradient by the objective's parameters that goes through the drawing of views."""

    def __call__(self, objective_params: Any, nats: Float[Array, "K"], view: View, /) -> Float[Array, ""]:
        """Returns 0 with a gradient that is added to the gradient of the loss (a surrogate loss).

        Args:
            objective_params: The objective's own parameters.
            nats: The loss of each of the K views of one example.
            view: The K views.
        """
        ...


@runtime_checkable
class InitFn(Protocol):
    """How an objective's own parameters begin."""

    def __call__(self, key: Array, /) -> Any:
        """A pytree of parameters; () where the objective has none."""
        ...


@runtime_checkable
class LogitsFn(Protocol):
    """The logits that a perfect network would put out."""

    def __call__(
        self, probs: Float[Array, "*n V"], z: Int[Array, "*n"], t: Float[Array, "*#n"], /
    ) -> Float[Array, "*n V"]:
        """The best network's logits.

        Args:
            probs: The leave-one-out distribution: of x_0 at a position, given all other positions.
            z: The state of the position at time t.
            t: Times in [0, 1].
        """
        ...


@runtime_checkable
class ReadFn(Protocol):
    """A distribution or ratios, read from logits."""

    def __call__(self, logits: Float[Array, "*n V"], z: Int[Array, "*n"], t: Float[Array, "*#n"], /) -> Array:
        """Float[*n V] or Float[*n S], for positions that hold z at t."""
        ...


@runtime_checkable
class ScoresFn(Protocol):
    """Sums over the ratios that bounds need, without forming the ratios."""

    def __call__(
        self, logits: Float[Array, "*n V"], x: Int[Array, "*n"], z: Int[Array, "*n"], t: Float[Array, "*#n"], /
    ) -> Any:
        """A `closed_form.Scores` at clean tokens x and states z."""
        ...


class Parameterization(NamedTuple):
    """What a network trained by an objective predicts at a position that holds z at time t, and how to read it.

    From it `exact` derives the best logits on a toy distribution, and samplers the reverse process.
    """

    process: Process
    logits: LogitsFn  # leave-one-out distribution -> the logits of a perfect network
    log_ratio: ReadFn  # logits -> [*n S]: log of p_t(y here) / p_t(z here) for every state y
    probs: ReadFn  # logits -> [*n V]: the leave-one-out distribution
    scores: ScoresFn  # logits -> the same ratios, summed; for processes that are mixtures


@runtime_checkable
class ParameterizationFn(Protocol):
    """The parameterization, which may depend on learned noise."""

    def __call__(self, objective_params: Any, /) -> Parameterization:
        """The parameterization for these parameters of the objective."""
        ...


@runtime_checkable
class TaskOfFn(Protocol):
    """Which task a row is read for."""

    def __call__(self, u: Float[Array, ""], /) -> Int[Array, ""]:
        """The number of the task in `Objective.tasks`.

        Args:
            u: As the view gets it.
        """
        ...


def no_parameters(key: Array) -> Any:
    """The parameters of an objective that learns nothing itself: ()."""
    return ()


class Objective(NamedTuple):
    """How to corrupt a sequence, the loss of the logits, and what evaluation and samplers need to know.

    Gradients reach the objective's own parameters through `token_loss`, `surrogate`, and the fields `constant` and
    `noisy` of a view; no other field of a view has a gradient.
    """

    view: ViewFn
    token_loss: TokenLossFn
    mask: MaskFn
    bound: str  # relation of the mean nats to -log p(x): 'exact' | 'upper' | 'none'
    estimator: str  # how the mean is estimated, as results name it
    evaluate: "Objective | None" = None  # what is reported, if not the loss that is trained
    init: InitFn = no_parameters
    surrogate: SurrogateFn | None = None
    parameterization: ParameterizationFn | None = None  # None where a position holds no noised token (ar, gaussian)
    num_steps: int = 0  # T of a discrete time, whose best bound exceeds H(x) by about C / T; 0: continuous time
    timed: bool = False  # the best network depends on t: it needs time conditioning
    inputs: int = 0  # d of `View.noisy`
    views: int = 1  # K
    coordinates: int = 1  # P
    parts: tuple[Part, ...] = ()  # of the targets, from 0 on, where not every position may have every token
    tasks: tuple[str, ...] = ()  # what a row may be read for, where rows differ: their nats are reported apart
    task_of: TaskOfFn | None = None  # for an objective with tasks


def spans(parts: tuple[Part, ...], scored: int) -> list[tuple[int, int, tuple[int, int]]]:
    """The first target of each part, the one after its last, and its ids.

    >>> spans((Part(0, (0, 15)), Part(4, (15, 271))), 13)
    [(0, 4, (0, 15)), (4, 13, (15, 271))]
    """
    stops = [part.start for part in parts[1:]] + [scored]
    return [(start, stop, ids) for (start, ids), stop in zip(parts, stops, strict=True)] if parts else []


def full(query, key):
    """Every position attends to every position.

    >>> bool(full(0, 5))
    True
    """
    return query == query


def causal(query, key):
    """A position attends to itself and to earlier ones.

    >>> causal(1, 0), causal(0, 1)
    (True, False)
    """
    return key <= query


def cross_entropy(objective_params: Any, logits: Float[Array, "*n V"], view: View) -> Float[Array, "*n"]:
    """-weight log softmax(logits)[target], in nats."""
    # a masked sum instead of a gather: its gradient is a select that fuses, not a scatter into [.., V]
    is_target = jnp.arange(logits.shape[-1]) == view.targets[..., None]
    target = jnp.where(is_target, logits, 0).sum(axis=-1)
    return view.weight * (jax.nn.logsumexp(logits, axis=-1) - target)


def loss_mask(example: Example) -> Bool[Array | np.ndarray, "*b L"]:
    """Which tokens have a loss: neither padding nor prompt. Losses are reported per such token."""
    return (example.segments > 0) & ~example.prompt_mask
