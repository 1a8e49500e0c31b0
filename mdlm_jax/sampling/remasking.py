"""Masked diffusion in reverse that may mask tokens again (ReMDM, arXiv 2503.00307).

A step from t to s masks a token with probability sigma, and unmasks a mask with probability
(alpha_s - (1 - sigma) alpha_t) / (1 - alpha_t): whatever sigma is, a share alpha_s of the positions then holds a token,
and each position by itself has the distribution of noised data. Positions change together, each by what it saw: an
error of sigma's size.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mdlm_jax.errors import UserError
from mdlm_jax.objectives.base import Objective
from mdlm_jax.objectives.predictions import predicts_masked
from mdlm_jax.sampling.ancestral import draw_at
from mdlm_jax.sampling.base import Context, Request, Trace
from mdlm_jax.sampling.network import Network, positions_of, read
from mdlm_jax.schedules import Schedule

INVERSE_POINTS = 1024  # of the grid on which a schedule is inverted
UNCAPPED = ("loop", "forward_backward")  # strategies whose sigma ReMDM's code does not cap
ETA = {"cap": 0.008, "rescale": 0.015, "loop": 0.02}  # defaults: those of the paper's scripts
LOOP_FIELDS = ("loop_on", "loop_off", "loop_alpha")


class Remasking(NamedTuple):
    """T steps from t = 1 to 0 that may mask tokens again; `strategy` gives the chance. At the end no mask is left.

    Which positions change is known before the network runs, so it runs only in steps that unmask a token: at most T
    evaluations per row. The prompt stays. A token's step and log probability are those of the last time it was drawn.

    Reference: ReMDM (arXiv 2503.00307).
    """

    temperature: float = 1.0  # divides the logits; 0 takes the likeliest token
    steps: int | None = None  # T; None: one per token
    top_k: int | None = None  # draw from the k likeliest tokens
    top_p: float | None = None  # draw from the smallest set of tokens of this probability
    guidance: float = 0.0  # weight of classifier-free guidance by the prompt
    guidance_ramp: bool = False  # the weight grows from 0 as tokens are unmasked (UniDisc)
    guidance_min_time: float = 0.0  # at times t below it there is no guidance
    guidance_max_time: float = 1.0  # nor above this one
    strategy: str = "cap"  # a key of STRATEGIES
    eta: float | None = None  # how much is masked again in a step; None: the strategy's default, ETA
    loop_on: float = 0.55  # loop: the time at which remasking begins
    loop_off: float = 0.05  # loop: the time at which it ends
    loop_alpha: float = 0.9  # loop: the share of positions that hold a token in between
    upstream_compat: bool = False  # with the errors of ReMDM's code, which docs/how-to/decoding.md lists

    def serves(self, objective: Objective, objective_params: Any) -> bool:
        return predicts_masked(objective, objective_params)

    def check(self, request: Request) -> None:
        if self.strategy not in STRATEGIES:
            raise UserError(f"strategy {self.strategy!r}: accepted are {', '.join(STRATEGIES)}")
        if self.eta is not None and self.strategy not in ETA:
            raise UserError(f"eta {self.eta}: {self.strategy} has none; accepted with {', '.join(ETA)}")
        if self.eta is not None and not 0 <= self.eta <= 1:
            raise UserError(f"eta {self.eta}: accepted is 0 to 1")
        for name in LOOP_FIELDS:
            if self.strategy != "loop" and getattr(self, name) != self._field_defaults[name]:
                raise UserError(f"{name} {getattr(self, name)}: {self.strategy} has none; accepted with loop")
        if self.upstream_compat and self.strategy not in UNCAPPED:
            raise UserError(
                f"upstream_compat {self.upstream_compat}: {self.strategy} has no error in ReMDM's code; "
                f"accepted with {', '.join(UNCAPPED)}"
            )
        if not 0 < self.loop_off < self.loop_on < 1:
            raise UserError(f"loop_on {self.loop_on}, loop_off {self.loop_off}; accepted: 0 < loop_off < loop_on < 1")
        if not 0 < self.loop_alpha < 1:
            raise UserError(f"loop_alpha {self.loop_alpha}: accepted is between 0 and 1")

    def draw(self, keys: Array, network: Network, tokens: Int[Array, "B L"], context: Context):
        return _remask(keys, network, tokens, self, context)


class Moment(NamedTuple):
    """One step, as a strategy sees it."""

    t: Float[Array, ""]
    noised_t: Float[Array, ""]  # 1 - alpha
    noised_s: Float[Array, ""]
    most: Float[Array, ""]  # sigma can be no larger: a mask would stay with a chance below 0
    eta: Float[Array, ""]


def cap(sampler: Remasking, now: Moment, nats: Float[Array, "n"]) -> Float[Array, ""]:
    """A constant (the paper's max-capped schedule)."""
    return now.eta


def rescale(sampler: Remasking, now: Moment, nats: Float[Array, "n"]) -> Float[Array, ""]:
    """A constant share of the largest sigma (the paper's rescaled schedule)."""
    return now.eta * now.most


def confidence(sampler: Remasking, now: Moment, nats: Float[Array, "n"]) -> Float[Array, "n"]:
    """The largest sigma, divided among the tokens: more for those with a lower probability when they were drawn (the
    paper's confidence-based schedule)."""
    share = jax.nn.softmax(jnp.where(nats > -jnp.inf, -jnp.exp(nats), -jnp.inf))
    return jnp.where(nats > -jnp.inf, share, 0) * now.most


def loop(sampler: Remasking, now: Moment, nats: Float[Array, "n"]) -> Float[Array, ""]:
    """A constant from the time loop_on to loop_off, while as many tokens are unmasked as masked (`looped`); else 0."""
    return jnp.where((now.t > sampler.loop_off) & (now.t <= sampler.loop_on), now.eta, 0)


def forward_backward(sampler: Remasking, now: Moment, nats: Float[Array, "n"]) -> Float[Array, ""]:
    """(alpha_s - alpha_t) / alpha_t: a step back with every step (the corrector of arXiv 2205.14987)."""
    return (now.noised_t - now.noised_s) / jnp.maximum(1 - now.noised_t, 1e-12)


# (sampler, moment, log probability with which each token was drawn, -inf at a mask) -> sigma, of all or of each
STRATEGIES = {
    "cap": cap,
    "rescale": rescale,
    "confidence": confidence,
    "loop": loop,
    "forward_backward": forward_backward,
}


def chance_of_mask(
    sampler: Remasking,
    t: Float[Array, ""],
    noised_t: Float[Array, ""],
    noised_s: Float[Array, ""],
    masked: Bool[Array, "n"],
    nats: Float[Array, "n"],
) -> Float[Array, "n"]:
    """The chance of each position to be a mask after the step from t to s: the reverse step of the paper.

    It is sigma for a token and (1 - alpha_s - sigma alpha_t) / (1 - alpha_t) for a mask.
    """
    survive = 1 - noised_t
    most = jnp.where(noised_s < survive, noised_s / jnp.where(survive > 0, survive, 1), 1)
    eta = jnp.asarray(ETA.get(sampler.strategy, 0) if sampler.eta is None else sampler.eta, most.dtype)
    now = Moment(t, noised_t, noised_s, most, eta)
    # not capped, the last step would mask tokens again: the public code fills those by one more evaluation
    largest = jnp.where(noised_s > 0, jnp.inf, most) if sampler.upstream_compat else most
    sigma = jnp.minimum(STRATEGIES[sampler.strategy](sampler, now, jnp.where(masked, -jnp.inf, nats)), largest)
    stays = jnp.clip((noised_s - sigma * survive) / noised_t, 0, 1)
    return jnp.where(masked, stays, sigma)


def levels(
    sampler: Remasking, schedule: Schedule, times: Float[Array, "n"]
) -> tuple[Float[Array, "n"], Float[Array, "n"]]:
    """(1 - alpha at these times, the times at which the training schedule has it, which the network is given)."""
    if sampler.strategy != "loop":
        return schedule(times), times
    noised = looped(schedule, sampler.loop_on, sampler.loop_off, sampler.loop_alpha)(times)
    grid = jnp.linspace(0.0, 1.0, INVERSE_POINTS + 1)
    return noised, jnp.interp(noised, schedule(grid), grid)


def looped(schedule: Schedule, on: float, off: float, alpha: float) -> Schedule:
    """A schedule that goes from noise to alpha by the time `on`, stays there, and continues after `off`."""

    def noised(t):
        before = 1 - alpha * (1 - schedule(jnp.maximum(t - on, 0) / (1 - on)))
        return before * schedule(jnp.minimum(t / off, 1))

    return noised


def _remask(keys: Array, network: Network, tokens: Int[Array, "B L"], sampler: Remasking, context: Context):
    (batch, length), mask_id, free = tokens.shape, network.mask_id, tokens == network.mask_id
    num_steps, positions = sampler.steps or length, positions_of(network, tokens)
    times = jnp.linspace(1.0, 0.0, num_steps + 1)
    noised, network_times = levels(sampler, context.trained.schedule, times)
    noised = noised.at[-1].set(0.0)  # the last step leaves no mask, whatever the schedule
    keys_moves, keys_tokens = jnp.unstack(jax.vmap(jax.random.split)(keys), axis=1)

    def masks_after(key, positions, free, tokens, nats, step):
        """Which positions of a row are a mask after the step."""
        drawn_nats = jnp.where(free, nats, -jnp.inf)
        chance = chance_of_mask(sampler, times[step], noised[step], noised[step + 1], tokens == mask_id, drawn_nats)
        keys_here = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.fold_in(key, step), positions)
        return free & (jax.vmap(jax.random.uniform)(keys_here) < chance)

    def skip(key, positions, free, tokens, nats, step):
        """A row at its next step that unmasks a token, if any. The steps before only mask: they need no evaluation."""

        def only_masks(state):
            step, tokens, masks = state
            return (step < num_steps) & ~((tokens == mask_id) & ~masks).any()

        def next_step(state):
            step, tokens, masks = state
            tokens = jnp.where(masks, mask_id, tokens)
            return step + 1, tokens, masks_after(key, positions, free, tokens, nats, step + 1)

        masks = masks_after(key, positions, free, tokens, nats, step)
        return jax.lax.while_loop(only_masks, next_step, (step, tokens, masks))

    def next_tokens(state):
        step, tokens, masks, last_step, nats, evaluations = state
        hidden, _ = read(network, network.cache, tokens, network_times[step])
        runs = step < num_steps
        unmasked = (tokens == mask_id) & ~masks & runs[:, None]
        keys_here = jax.vmap(jax.random.fold_in)(keys_tokens, step)
        tokens, nats = draw_at(unmasked, network, keys_here, hidden, tokens, nats, context.temperature, sampler)
        tokens = jnp.where(masks & runs[:, None], mask_id, tokens)
        last_step, evaluations = jnp.where(unmasked, step[:, None], last_step), evaluations + runs
        step, tokens, masks = jax.vmap(skip)(keys_moves, positions, free, tokens, nats, jnp.where(runs, step + 1, step))
        return step, tokens, masks, last_step, nats, evaluations

    nats = jnp.zeros(tokens.shape)
    begin = jax.vmap(skip)(keys_moves, positions, free, tokens, nats, jnp.zeros(batch, jnp.int32))
    state = (*begin, jnp.full(tokens.shape, -1, jnp.int32), nats, jnp.zeros(batch, jnp.int32))
    _, tokens, _, last_step, nats, evaluations = jax.lax.while_loop(
        lambda state: (state[0] < num_steps).any(), next_tokens, state
    )
    return tokens, Trace(last_step, nats, evaluations)
