"""Masked diffusion run backwards, with second thoughts: what has been placed may become a mask again (ReMDM).

arXiv 2503.00307. From t to s a token becomes a mask with probability sigma, and a mask takes a token with probability
(alpha_s - (1 - sigma) alpha_t) / (1 - alpha_t): whatever sigma is, a share alpha_s of the positions then holds a token
and each position by itself has the distribution of noised data. Positions change together, each by what it saw: an
error of sigma's size.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mdlm_jax.errors import UserError
from mdlm_jax.sampling.ancestral import position
from mdlm_jax.sampling.base import Plan, Trace, TracedArguments
from mdlm_jax.sampling.network import Network, positions_of, read
from mdlm_jax.schedules import Schedule

INVERSE_POINTS = 1024  # of the grid on which a schedule is inverted


class Moment(NamedTuple):
    """One step, as a strategy sees it."""

    t: Float[Array, ""]
    noised_t: Float[Array, ""]  # 1 - alpha
    noised_s: Float[Array, ""]
    most: Float[Array, ""]  # sigma can be no larger: a mask would stay with a chance below 0
    eta: Float[Array, ""]


def cap(plan: Plan, now: Moment, nats: Float[Array, "n"]) -> Float[Array, ""]:
    """A constant (the paper's max-capped schedule)."""
    return now.eta


def rescale(plan: Plan, now: Moment, nats: Float[Array, "n"]) -> Float[Array, ""]:
    """A constant share of the most there may be (its rescaled schedule)."""
    return now.eta * now.most


def confidence(plan: Plan, now: Moment, nats: Float[Array, "n"]) -> Float[Array, "n"]:
    """The most there may be, shared out among the tokens: more to those of which the network was less sure when it
    placed them (its confidence-based schedule)."""
    share = jax.nn.softmax(jnp.where(nats > -jnp.inf, -jnp.exp(nats), -jnp.inf))
    return jnp.where(nats > -jnp.inf, share, 0) * now.most


def loop(plan: Plan, now: Moment, nats: Float[Array, "n"]) -> Float[Array, ""]:
    """A constant from the time loop_on to loop_off, while as many tokens come as go (`looped`); otherwise 0."""
    return jnp.where((now.t > plan.loop_off) & (now.t <= plan.loop_on), now.eta, 0)


def forward_backward(plan: Plan, now: Moment, nats: Float[Array, "n"]) -> Float[Array, ""]:
    """(alpha_s - alpha_t) / alpha_t: a step back with every step (the corrector of arXiv 2205.14987)."""
    return (now.noised_t - now.noised_s) / jnp.maximum(1 - now.noised_t, 1e-12)


# (plan, moment, log probability with which each token was placed, -inf where there is none) -> sigma, of all or of each
STRATEGIES = {
    "cap": cap,
    "rescale": rescale,
    "confidence": confidence,
    "loop": loop,
    "forward_backward": forward_backward,
}
UNCAPPED = ("loop", "forward_backward")  # of which ReMDM's code does not cap sigma
ETA = {"cap": 0.008, "rescale": 0.015, "loop": 0.02}  # where the plan does not say, that of the paper's scripts
OF_LOOP = ("loop_on", "loop_off", "loop_alpha")
ARGUMENTS = ("strategy", "eta", *OF_LOOP)


def chance_of_mask(
    plan: Plan,
    t: Float[Array, ""],
    noised_t: Float[Array, ""],
    noised_s: Float[Array, ""],
    hidden: Bool[Array, "n"],
    nats: Float[Array, "n"],
) -> Float[Array, "n"]:
    """For every position the chance that it is a mask after the step: sigma, or of a mask (1 - alpha_s - sigma alpha_t)
    / (1 - alpha_t), the reverse step of the paper."""
    survive = 1 - noised_t
    most = jnp.where(noised_s < survive, noised_s / jnp.where(survive > 0, survive, 1), 1)
    eta = jnp.asarray(ETA.get(plan.strategy, 0) if plan.eta is None else plan.eta, most.dtype)
    now = Moment(t, noised_t, noised_s, most, eta)
    # not capped, the last step would hide tokens again: there a last reading fills them in
    largest = jnp.where(noised_s > 0, jnp.inf, most) if plan.upstream_compat else most
    sigma = jnp.minimum(STRATEGIES[plan.strategy](plan, now, jnp.where(hidden, -jnp.inf, nats)), largest)
    stays = jnp.clip((noised_s - sigma * survive) / noised_t, 0, 1)
    return jnp.where(hidden, stays, sigma)


def levels(plan: Plan, times: Float[Array, "n"]) -> tuple[Float[Array, "n"], Float[Array, "n"]]:
    """(1 - alpha at these times, the times at which the schedule has it): the network is told the latter."""
    if plan.strategy != "loop":
        return plan.schedule(times), times
    noised = looped(plan.schedule, plan.loop_on, plan.loop_off, plan.loop_alpha)(times)
    grid = jnp.linspace(0.0, 1.0, INVERSE_POINTS + 1)
    return noised, jnp.interp(noised, plan.schedule(grid), grid)


def looped(schedule: Schedule, on: float, off: float, alpha: float) -> Schedule:
    """A schedule that goes from noise to alpha by the time `on`, stays there, and goes on after `off`."""

    def noised(t):
        before = 1 - alpha * (1 - schedule(jnp.maximum(t - on, 0) / (1 - on)))
        return before * schedule(jnp.minimum(t / off, 1))

    return noised


def remasking(keys: Array, network: Network, tokens: Int[Array, "B L"], plan: Plan, traced: TracedArguments):
    """T steps from t = 1 to 0; `plan.strategy` says how likely a token is to go in each. At the end nothing is hidden.

    Which positions change is known before the network is run, so it runs only in steps that position a token: at most T
    evaluations a row. What is given stays. A token's step and log probability are those of the last time it was placed.
    """
    (batch, length), mask_id, free = tokens.shape, network.mask_id, tokens == network.mask_id
    num_steps, positions = plan.steps or length, positions_of(network, tokens)
    times = jnp.linspace(1.0, 0.0, num_steps + 1)
    noised, told = levels(plan, times)
    noised = noised.at[-1].set(0.0)  # the last step leaves nothing hidden, whatever the schedule
    keys_moves, keys_tokens = jnp.unstack(jax.vmap(jax.random.split)(keys), axis=1)

    def masks_after(key, positions, free, tokens, nats, step):
        """Which positions of a row are a mask after the step."""
        shown = jnp.where(free, nats, -jnp.inf)
        chance = chance_of_mask(plan, times[step], noised[step], noised[step + 1], tokens == mask_id, shown)
        keys_here = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.fold_in(key, step), positions)
        return free & (jax.vmap(jax.random.uniform)(keys_here) < chance)

    def wait(key, positions, free, tokens, nats, step):
        """A row at its next step that positions a token, if any: until then tokens only go, and no network is asked."""

        def goes_on(state):
            step, tokens, masks = state
            return (step < num_steps) & ~((tokens == mask_id) & ~masks).any()

        def next_step(state):
            step, tokens, masks = state
            tokens = jnp.where(masks, mask_id, tokens)
            return step + 1, tokens, masks_after(key, positions, free, tokens, nats, step + 1)

        masks = masks_after(key, positions, free, tokens, nats, step)
        return jax.lax.while_loop(goes_on, next_step, (step, tokens, masks))

    def next_tokens(state):
        step, tokens, masks, when, nats, evaluations = state
        out, _ = read(network, network.cache, tokens, told[step])
        runs = step < num_steps
        placed = (tokens == mask_id) & ~masks & runs[:, None]
        keys_here = jax.vmap(jax.random.fold_in)(keys_tokens, step)
        tokens, nats = position(network, keys_here, out, tokens, nats, placed, plan, traced)
        tokens = jnp.where(masks & runs[:, None], mask_id, tokens)
        when, evaluations = jnp.where(placed, step[:, None], when), evaluations + runs
        step, tokens, masks = jax.vmap(wait)(keys_moves, positions, free, tokens, nats, jnp.where(runs, step + 1, step))
        return step, tokens, masks, when, nats, evaluations

    nats = jnp.zeros(tokens.shape)
    begin = jax.vmap(wait)(keys_moves, positions, free, tokens, nats, jnp.zeros(batch, jnp.int32))
    state = (*begin, jnp.full(tokens.shape, -1, jnp.int32), nats, jnp.zeros(batch, jnp.int32))
    _, tokens, _, when, nats, evaluations = jax.lax.while_loop(
        lambda state: (state[0] < num_steps).any(), next_tokens, state
    )
    return tokens, Trace(when, nats, evaluations)


def check(plan: Plan) -> None:
    """Raises UserError for an argument that cannot be followed."""
    if plan.strategy not in STRATEGIES:
        raise UserError(f"strategy {plan.strategy!r}: accepted are {', '.join(STRATEGIES)}")
    if plan.eta is not None and plan.strategy not in ETA:
        raise UserError(f"eta {plan.eta}: {plan.strategy} has none; accepted with {', '.join(ETA)}")
    if plan.eta is not None and not 0 <= plan.eta <= 1:
        raise UserError(f"eta {plan.eta}: accepted is 0 to 1")
    for name in OF_LOOP:
        if plan.strategy != "loop" and getattr(plan, name) != Plan._field_defaults[name]:
            raise UserError(f"{name} {getattr(plan, name)}: {plan.strategy} has none; accepted with loop")
    if plan.upstream_compat and plan.strategy not in UNCAPPED:
        raise UserError(
            f"upstream_compat {plan.upstream_compat}: {plan.strategy} has no error in ReMDM's code; "
            f"accepted with {', '.join(UNCAPPED)}"
        )
    if not 0 < plan.loop_off < plan.loop_on < 1:
        raise UserError(f"loop_on {plan.loop_on}, loop_off {plan.loop_off}; accepted: 0 < loop_off < loop_on < 1")
    if not 0 < plan.loop_alpha < 1:
        raise UserError(f"loop_alpha {plan.loop_alpha}: accepted is between 0 and 1")
