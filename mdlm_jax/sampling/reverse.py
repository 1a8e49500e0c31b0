"""A noise process run backwards over a whole row at once: from its prior at t = 1, in T steps, to text at t = 0."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mdlm_jax.objectives.noised import EARLIEST
from mdlm_jax.processes.base import Process, draw, posterior
from mdlm_jax.sampling.base import Plan, Trace, TracedArguments
from mdlm_jax.sampling.network import Network, logits_of, read
from mdlm_jax.sampling.steps import (
    corrector_step,
    euler_distribution,
    metropolis_step,
    tau_leaping_distribution,
    tweedie_distribution,
    without_mask,
)

SURVIVORS = 1e-6  # share of tokens below which float32 no longer tells what the others were
CORRECTORS = 2  # of predictor_corrector, where the plan does not say
CORRECTOR_SIZE = (
    0.5  # of a step: larger ones, with both ways at once, move too many positions by what they saw together
)

# the distribution of one step: `posterior` is given a distribution of the clean token, the others log ratios
DISTRIBUTIONS = {
    "posterior": posterior,
    "tweedie": tweedie_distribution,
    "euler": euler_distribution,
    "tau_leaping": tau_leaping_distribution,
    "predictor_corrector": euler_distribution,
}


def reverse(keys: Array, network: Network, tokens: Int[Array, "B L"], plan: Plan, traced: TracedArguments):
    """T equal steps from t to s = t - 1 / T by the distribution that `plan.sampler` names; T evaluations a row.

    `predictor_corrector` is `euler` and `plan.correctors` steps of half that size at every s > 0, an evaluation each.
    At s = 0 no mask is left: one that is still there takes a token from the network's distribution. A prompt is shown
    to the network as it is at every t, as given tokens are in training.
    """
    correctors = (plan.correctors or CORRECTORS) if plan.sampler == "predictor_corrector" else 0
    return _walk(keys, network, tokens, plan, traced, correctors)


def metropolis(keys: Array, network: Network, tokens: Int[Array, "B L"], plan: Plan, traced: TracedArguments):
    """T proposals of one changed token each (arXiv 2211.00802), the k-th accepted by p_t at t = 1 - k / T.

    A cooling so slow that every p_t is followed ends in p_(1 / T): T has to be many times L V. T evaluations a row.
    """
    return _walk(keys, network, tokens, plan, traced, correctors=0)


def _walk(keys, network: Network, given, plan: Plan, traced: TracedArguments, correctors: int) -> tuple[Array, Trace]:
    (batch, length), parameterization, sampler = (
        given.shape,
        plan.parameterization(traced.objective_params),
        plan.sampler,
    )
    free, process, num_steps = given == network.mask_id, parameterization.process, plan.steps or given.shape[1]
    times = jnp.linspace(1.0, 0.0, num_steps + 1)

    def predict(key, x, free, probs, log_ratio, t, s):
        """One row from t to s."""
        if sampler == "metropolis":
            return metropolis_step(key, x, log_ratio, free)
        said = probs if sampler == "posterior" else log_ratio
        moved = DISTRIBUTIONS[sampler](process, x, said, s[None], t[None])
        # a chance that is a difference may round to below 0
        return draw(key, jnp.maximum(jnp.where(s > 0, moved, without_mask(process, x, moved, probs)), 0))

    def correct(key, x, free, probs, log_ratio, t, s):
        return corrector_step(key, process, x, log_ratio, t[None], jnp.float32(CORRECTOR_SIZE / num_steps))

    def move(state, step, index, kind, t, s):
        """Every row, by one evaluation of the network at t. Randomness: of the row, the step and the kind of move."""
        tokens, when, nats = state
        hidden, _ = read(network, network.cache, tokens, jnp.full(batch, t))
        logits, everywhere = logits_of(network, hidden), t[None, None]
        probs, log_ratio = (
            parameterization.probs(logits, tokens, everywhere),
            parameterization.log_ratio(logits, tokens, everywhere),
        )
        keys_here = jax.vmap(lambda key: jax.random.fold_in(jax.random.fold_in(key, index), kind))(keys)
        moved = jax.vmap(step, (0, 0, 0, 0, 0, None, None))(keys_here, tokens, free, probs, log_ratio, t, s)
        placed = free & ((moved != tokens) | (index == 0))
        chance = jnp.take_along_axis(probs, jnp.minimum(moved, process.vocab - 1)[..., None], axis=-1)[..., 0]
        return (
            jnp.where(free, moved, tokens),
            jnp.where(placed, index, when),
            jnp.where(placed, jnp.log(chance), nats),
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
    tokens, when, nats = jax.lax.fori_loop(0, num_steps, next_step, state)
    evaluations = num_steps + correctors * (num_steps - 1)
    return tokens, Trace(when, nats, jnp.full(batch, evaluations, jnp.int32))


def latest_time(process: Process) -> Float[Array, ""]:
    """The last time at which a token survives with probability SURVIVORS: beyond it rates and scores are 0 / 0.

    1 for a chain of steps, which has none.
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
