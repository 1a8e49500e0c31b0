"""A noise process in reverse over a whole row: from its prior at t = 1, in T steps, to text at t = 0."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mdlm_jax.errors import UserError
from mdlm_jax.objectives.base import Objective
from mdlm_jax.objectives.noised import EARLIEST
from mdlm_jax.objectives.predictions import predicts_rates, process_of
from mdlm_jax.processes.base import Process, draw, posterior
from mdlm_jax.sampling.base import Context, Request, Trace
from mdlm_jax.sampling.network import Network, logits_of, read
from mdlm_jax.sampling.steps import (
    corrector_step,
    euler_distribution,
    metropolis_step,
    tau_leaping_distribution,
    tweedie_distribution,
    without_mask,
)

SURVIVORS = 1e-6  # share of tokens below which float32 no longer distinguishes the others
# share of a step: larger corrector steps, forward and backward at once, move too many positions independently
CORRECTOR_SIZE = 0.5

# the distribution of one step: `posterior` takes a distribution of the clean token, the others log ratios
DISTRIBUTIONS = {
    "posterior": posterior,
    "tweedie": tweedie_distribution,
    "euler": euler_distribution,
    "tau_leaping": tau_leaping_distribution,
}


class Reverse(NamedTuple):
    """T equal steps from t to s = t - 1 / T, each position by the distribution of its step. T evaluations per row.

    At s = 0 no mask is left: a position that is still masked takes a token from the network's distribution. The
    network reads the prompt as it is at every t, as in training.

    Reference: D3PM (arXiv 2107.03006: posterior), SEDD (arXiv 2310.16834: tweedie, euler), tauLDR (arXiv 2205.14987:
    tau_leaping).
    """

    distribution: str = "posterior"  # of a step: a key of DISTRIBUTIONS
    steps: int | None = None  # T; None: one per token, or those of a process in discrete time
    guidance: float = 0.0  # weight of classifier-free guidance by the prompt
    guidance_ramp: bool = False  # the weight grows from 0 as t falls (UniDisc)
    guidance_min_time: float = 0.0  # at times t below it there is no guidance
    guidance_max_time: float = 1.0  # nor above this one

    cannot = frozenset({"pad"})

    def serves(self, objective: Objective, objective_params: Any) -> bool:
        process = process_of(objective, objective_params)
        if process is None or self.distribution == "posterior":
            return process is not None
        # Tweedie tau-leaping reverses noise that treats all tokens alike
        alike = self.distribution != "tweedie" or process.mixture is not None
        return alike and predicts_rates(objective, objective_params)

    def check(self, request: Request) -> None:
        if self.distribution not in DISTRIBUTIONS:
            raise UserError(f"distribution {self.distribution!r}: accepted are {', '.join(DISTRIBUTIONS)}")
        _check_process(self.distribution, self.steps, request)

    def draw(self, keys: Array, network: Network, tokens: Int[Array, "B L"], context: Context):
        return _walk(keys, network, tokens, self.steps, context, _step_by(self.distribution), correctors=0)


class PredictorCorrector(NamedTuple):
    """Euler steps, and after each, at s > 0, corrector steps of half their size, with one evaluation each.

    Reference: tauLDR (arXiv 2205.14987, proposition 4).
    """

    steps: int | None = None  # T; None: one per token
    correctors: int = 2  # corrector steps after each step
    guidance: float = 0.0  # weight of classifier-free guidance by the prompt
    guidance_ramp: bool = False  # the weight grows from 0 as t falls (UniDisc)
    guidance_min_time: float = 0.0  # at times t below it there is no guidance
    guidance_max_time: float = 1.0  # nor above this one

    cannot = frozenset({"pad"})

    def serves(self, objective: Objective, objective_params: Any) -> bool:
        return predicts_rates(objective, objective_params)

    def check(self, request: Request) -> None:
        if self.correctors < 1:
            raise UserError(f"correctors {self.correctors}: accepted is 1 or more")
        _check_process("predictor_corrector", self.steps, request)

    def draw(self, keys: Array, network: Network, tokens: Int[Array, "B L"], context: Context):
        return _walk(keys, network, tokens, self.steps, context, _step_by("euler"), self.correctors)


class Metropolis(NamedTuple):
    """T proposals of one changed token each, the k-th accepted by p_t at t = 1 - k / T. T evaluations per row.

    Cooling so slow that every p_t is followed ends in p_(1 / T): T has to be many times L V.

    Reference: arXiv 2211.00802.
    """

    steps: int | None = None  # T; None: one per token

    cannot = frozenset({"pad"})

    def serves(self, objective: Objective, objective_params: Any) -> bool:
        process = process_of(objective, objective_params)
        no_mask = process is not None and process.states == process.vocab
        return no_mask and predicts_rates(objective, objective_params)

    def check(self, request: Request) -> None:
        _check_process("metropolis", self.steps, request)

    def draw(self, keys: Array, network: Network, tokens: Int[Array, "B L"], context: Context):
        def propose(process, key, x, free, probs, log_ratio, t, s):
            return metropolis_step(key, x, log_ratio, free)

        return _walk(keys, network, tokens, self.steps, context, propose, correctors=0)


def _check_process(name: str, steps: int | None, request: Request) -> None:
    trained = request.trained
    if trained.parameterization is None:
        raise UserError(f"{name} reverses a noise process; accepted: with the parameterization of its objective")
    blocks = -(-request.length // trained.block_size) if trained.block_size else 1
    if trained.num_steps and steps not in (None, blocks * trained.num_steps):
        raise UserError(f"steps {steps}: the process has discrete time; accepted: {blocks * trained.num_steps}")


def _step_by(name: str) -> Callable:
    """One row from t to s by the named distribution."""

    def predict(process: Process, key, x, free, probs, log_ratio, t, s):
        known = probs if name == "posterior" else log_ratio
        moved = DISTRIBUTIONS[name](process, x, known, s[None], t[None])
        # a chance that is a difference may round to below 0
        return draw(key, jnp.maximum(jnp.where(s > 0, moved, without_mask(process, x, moved, probs)), 0))

    return predict


def _walk(keys, network: Network, given, steps: int | None, context: Context, predict: Callable, correctors: int):
    """T times `predict` on every row, each followed by the correctors."""
    (batch, length), trained = given.shape, context.trained
    parameterization = trained.parameterization(trained.objective_params)
    num_steps = steps or trained.num_steps or length
    free, process = given == network.mask_id, parameterization.process
    times = jnp.linspace(1.0, 0.0, num_steps + 1)

    def correct(process, key, x, free, probs, log_ratio, t, s):
        return corrector_step(key, process, x, log_ratio, t[None], jnp.float32(CORRECTOR_SIZE / num_steps))

    def move(state, step, index, kind, t, s):
        """Every row, by one evaluation of the network at t. The key depends on the row, the step and the kind."""
        tokens, last_step, nats = state
        hidden, _ = read(network, network.cache, tokens, jnp.full(batch, t))
        logits, everywhere = logits_of(network, hidden), t[None, None]
        probs, log_ratio = (
            parameterization.probs(logits, tokens, everywhere),
            parameterization.log_ratio(logits, tokens, everywhere),
        )
        keys_here = jax.vmap(lambda key: jax.random.fold_in(jax.random.fold_in(key, index), kind))(keys)
        one_row = partial(step, process)
        moved = jax.vmap(one_row, (0, 0, 0, 0, 0, None, None))(keys_here, tokens, free, probs, log_ratio, t, s)
        changed = free & ((moved != tokens) | (index == 0))
        chance = jnp.take_along_axis(probs, jnp.minimum(moved, process.vocab - 1)[..., None], axis=-1)[..., 0]
        return (
            jnp.where(free, moved, tokens),
            jnp.where(changed, index, last_step),
            jnp.where(changed, jnp.log(chance), nats),
        )

    latest = latest_time(process)

    def next_step(index, state):
        t, s = jnp.clip(times[index], EARLIEST, latest), jnp.minimum(times[index + 1], latest)
        state = move(state, predict, index, 0, t, s)
        turns = jnp.where(s > 0, correctors, 0)
        return jax.lax.fori_loop(1, 1 + turns, lambda turn, state: move(state, correct, index, turn, s, s), state)

    keys_start = jax.vmap(lambda key: jax.random.fold_in(key, num_steps))(keys)
    start = jax.vmap(lambda key: draw(key, jnp.broadcast_to(process.prior, (length, process.states))))(keys_start)
    start = jnp.where(free, start, given)
    state = start, jnp.full(start.shape, -1, jnp.int32), jnp.zeros(start.shape)
    tokens, last_step, nats = jax.lax.fori_loop(0, num_steps, next_step, state)
    evaluations = num_steps + correctors * (num_steps - 1)
    return tokens, Trace(last_step, nats, jnp.full(batch, evaluations, jnp.int32))


def latest_time(process: Process) -> Float[Array, ""]:
    """The last time at which a token survives with probability SURVIVORS: beyond it rates and scores are 0 / 0.

    1 for a process in discrete time, which has no rates.
    """
    if process.rate is None:
        return jnp.ones(())

    def survive(t):
        probs = process.forward(jnp.zeros(process.vocab).at[0].set(1), t)
        return probs[0] - probs[1] >= SURVIVORS

    def halve(_, ends):
        low, high = ends
        middle = (low + high) / 2
        return jnp.where(survive(middle), middle, low), jnp.where(survive(middle), high, middle)

    return jax.lax.fori_loop(0, 24, halve, (jnp.float32(0), jnp.float32(1)))[0]
