"""Masked diffusion in reverse: the step that unmasks a position is drawn first, then the network draws its token."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mdlm_jax.objectives.base import Objective
from mdlm_jax.objectives.predictions import predicts_masked
from mdlm_jax.sampling.base import Context, Request, Trace
from mdlm_jax.sampling.drawing import draw
from mdlm_jax.sampling.network import Network, logits_of, positions_of, read, uniform_at


class Ancestral(NamedTuple):
    """T steps from t = 1 to 0: a step from t to s unmasks with probability (alpha_s - alpha_t) / (1 - alpha_t).

    It tends to the network's own distribution as T grows; in one step all tokens are drawn independently. At most
    min(T, L - P) evaluations per row.

    Reference: MDLM (arXiv 2406.07524), RADD (arXiv 2406.03736).
    """

    temperature: float = 1.0  # divides the logits; 0 takes the likeliest token
    steps: int | None = None  # T; None: one per token
    top_k: int | None = None  # draw from the k likeliest tokens
    top_p: float | None = None  # draw from the smallest set of tokens of this probability
    guidance: float = 0.0  # weight of classifier-free guidance by the prompt
    guidance_ramp: bool = False  # the weight grows from 0 as tokens are unmasked (UniDisc)
    guidance_min_time: float = 0.0  # at times t below it there is no guidance
    guidance_max_time: float = 1.0  # nor above this one

    def serves(self, objective: Objective, objective_params: Any) -> bool:
        return predicts_masked(objective, objective_params)

    def check(self, request: Request) -> None:
        """All fields are checked by name."""

    def draw(self, keys: Array, network: Network, tokens: Int[Array, "B L"], context: Context):
        num_steps = self.steps or tokens.shape[1]
        times = jnp.linspace(1.0, 0.0, num_steps + 1)
        noised = context.trained.schedule(times)
        # the chances of staying masked multiply to this; the last step leaves no mask, whatever the schedule
        masked = (noised / noised[0]).at[-1].set(0.0)
        step = jax.vmap(lambda key, positions: unmask_steps(key, masked, positions))(
            _key_pairs(keys)[0], positions_of(network, tokens)
        )
        times = jnp.broadcast_to(times, (len(tokens), num_steps + 1))
        return _unmask(keys, network, tokens, step, times, self, context)


class FirstHitting(NamedTuple):
    """Ancestral sampling with T = infinity: the masks go one by one, at the times of the reverse process.

    Of n masks the next goes at t u^(1 / n): the n times are n uniform numbers in falling order. Exact for its network;
    L - P evaluations per row. For the linear schedule, or a network without time conditioning.

    Reference: arXiv 2409.02908.
    """

    temperature: float = 1.0  # divides the logits; 0 takes the likeliest token
    top_k: int | None = None  # draw from the k likeliest tokens
    top_p: float | None = None  # draw from the smallest set of tokens of this probability
    guidance: float = 0.0  # weight of classifier-free guidance by the prompt
    guidance_ramp: bool = False  # the weight grows from 0 as tokens are unmasked (UniDisc)
    guidance_min_time: float = 0.0  # at times t below it there is no guidance
    guidance_max_time: float = 1.0  # nor above this one

    def serves(self, objective: Objective, objective_params: Any) -> bool:
        return predicts_masked(objective, objective_params)

    def check(self, request: Request) -> None:
        """All fields are checked by name."""

    def draw(self, keys: Array, network: Network, tokens: Int[Array, "B L"], context: Context):
        step, times = hitting_times(_key_pairs(keys)[0], tokens == network.mask_id, positions_of(network, tokens))
        return _unmask(keys, network, tokens, step, times, self, context)


def unmask_steps(key: Array, masked: Float[Array, "n"], positions: Int[Array, "L"]) -> Int[Array, "L"]:
    """The step 0 .. T-1 that unmasks each position; masked[k] is its chance to be masked after the first k steps.

    The network has no influence on it, so all steps are drawn at once, before the network runs.
    """
    return jnp.searchsorted(-masked[1:], -uniform_at(key[None], positions[None])[0], side="left").astype(jnp.int32)


def hitting_times(
    keys: Array, masked: Bool[Array, "B L"], positions: Int[Array, "B L"]
) -> tuple[Int[Array, "B L"], Float[Array, "B T"]]:
    """(the step that unmasks each position, the time of each step: falling, then 0), one step per masked position."""
    times = jnp.where(masked, uniform_at(keys, positions), -1.0)
    order = jnp.argsort(-times, axis=1)
    step = jnp.argsort(order, axis=1).astype(jnp.int32)
    times = jnp.take_along_axis(times, order, axis=1)
    return step, jnp.concatenate([times, jnp.zeros_like(times[:, :1])], axis=1)


def _key_pairs(keys: Array) -> tuple[Array, Array]:
    """Each row's key for the times and for the tokens."""
    of_times, of_tokens = jnp.unstack(jax.vmap(jax.random.split)(keys), axis=1)
    return of_times, of_tokens


def _unmask(keys, network: Network, tokens, step, times, sampler: Ancestral | FirstHitting, context: Context):
    """Every position in its step, from the network's distribution at times[row, step]."""
    batch, mask_id, num_steps = len(tokens), network.mask_id, times.shape[1] - 1
    rows, keys_tokens = jnp.arange(batch), _key_pairs(keys)[1]
    step = jnp.where(tokens == mask_id, step, -1)

    def next_step(state):
        """Each row skips to its next step that unmasks a position; the network does not run for the others (RADD)."""
        tokens, log_probability, evaluations = state
        waiting = tokens == mask_id
        now = jnp.where(waiting, step, num_steps).min(axis=1)
        hidden, _ = read(network, network.cache, tokens, times[rows, now])
        here = waiting & (step == now[:, None])
        tokens, log_probability = draw_at(
            here, network, keys_tokens, hidden, tokens, log_probability, context.temperature, sampler
        )
        return tokens, log_probability, evaluations + waiting.any(axis=1)

    state = tokens, jnp.zeros(tokens.shape), jnp.zeros(batch, jnp.int32)
    tokens, log_probability, evaluations = jax.lax.while_loop(
        lambda state: (state[0] == mask_id).any(), next_step, state
    )
    return tokens, Trace(step, log_probability, evaluations)


def draw_at(
    chosen: Bool[Array, "B L"],
    network: Network,
    keys: Array,
    hidden: Float[Array, "B L d"],
    tokens: Int[Array, "B L"],
    log_probability: Float[Array, "B L"],
    temperature: Float[Array, ""],
    sampler: Any,
) -> tuple[Int[Array, "B L"], Float[Array, "B L"]]:
    """Draws tokens at the chosen positions by the sampler's `top_k` and `top_p`.

    Returns:
        `tokens` and `log_probability` with the drawn tokens and their nats at the chosen positions.
    """
    rows, positions = jnp.arange(len(tokens)), positions_of(network, tokens)

    def next_position(state):
        """One position of each row, so that logits exist for as many positions as there are rows."""
        tokens, nats, left = state
        here, any_left = left.argmax(axis=1), left.any(axis=1)
        keys_here = jax.vmap(jax.random.fold_in)(keys, positions[rows, here])
        logits = logits_of(network, hidden[rows, here])
        token, new = draw(keys_here, logits, temperature, sampler.top_k, sampler.top_p)
        return (
            tokens.at[rows, here].set(jnp.where(any_left, token, tokens[rows, here])),
            nats.at[rows, here].set(jnp.where(any_left, new, nats[rows, here])),
            left.at[rows, here].set(False),
        )

    state = (tokens, log_probability, chosen)
    tokens, log_probability, _ = jax.lax.while_loop(lambda state: state[2].any(), next_position, state)
    return tokens, log_probability
