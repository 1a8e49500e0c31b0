"""Masked diffusion run backwards: every hidden token waits for its step, and is then drawn from the network."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mdlm_jax.models.transformer import Model
from mdlm_jax.objectives.base import full
from mdlm_jax.sampling.base import Plan, Trace, canvas, draw, reading


def ancestral(keys: Array, model: Model, params: Any, prompt: Int[Array, "B P"], plan: Plan) -> tuple[Array, Trace]:
    """T steps from t = 1 to 0: from t to s a mask is revealed with probability (alpha_s - alpha_t) / (1 - alpha_t).

    MDLM (arXiv 2406.07524) and RADD (arXiv 2406.03736). Tends to the network's own law as T grows; in one
    step tokens are drawn independently. At most min(T, L - P) evaluations a row.
    """
    times = jnp.linspace(1.0, 0.0, (plan.steps or plan.length) + 1)
    noised = plan.schedule(times)
    # the chances of staying hidden multiply to this; the last step leaves nothing hidden, whatever the schedule
    hidden = (noised / noised[0]).at[-1].set(0.0)
    static = {"model": model, "length": plan.length, "top_k": plan.top_k, "top_p": plan.top_p}
    return _run_backwards(keys, params, prompt, times, hidden, jnp.float32(plan.temperature), **static)


def reveal_steps(key: Array, hidden: Float[Array, "n"], length: int) -> Int[Array, "L"]:
    """In which step 0 .. T-1 each place is revealed; hidden[k] is its chance to be so in none of the first k.

    The network has no say in it, so the steps are drawn before it is run, all at once.
    """
    u = jax.random.uniform(key, (length,))
    return jnp.searchsorted(-hidden[1:], -u, side="left").astype(jnp.int32)


@partial(jax.jit, static_argnames=("model", "length", "top_k", "top_p"))
def _run_backwards(keys, params, prompt, times, hidden, temperature, *, model: Model, length: int, top_k, top_p):
    batch, mask_id = len(prompt), model.architecture.vocab_size
    tokens, free = canvas(prompt, length, mask_id)
    rows, places = jnp.arange(batch), jnp.broadcast_to(jnp.arange(length)[None, :, None], (batch, length, 1))
    keys_steps, keys_tokens = jnp.unstack(jax.vmap(jax.random.split)(keys), axis=1)
    step = jnp.where(free, jax.vmap(lambda key: reveal_steps(key, hidden, length))(keys_steps), -1)

    def next_step(state):
        """Each row goes straight to the next step that reveals something: the network runs for no other (RADD)."""
        tokens, log_probability, evaluations = state
        waiting = tokens == mask_id
        now = jnp.where(waiting, step, len(times) - 1).min(axis=1)
        out, _ = model.hidden(params, reading(tokens, places, places, times[now]), full)

        def next_place(state):
            """One place of each row, so that logits exist for as many places as there are rows."""
            tokens, log_probability, revealed = state
            place, any_left = revealed.argmax(axis=1), revealed.any(axis=1)
            keys_here = jax.vmap(jax.random.fold_in)(keys_tokens, place)
            token, nats = draw(keys_here, model.head(params, out[rows, place]), temperature, top_k, top_p)
            return (
                tokens.at[rows, place].set(jnp.where(any_left, token, tokens[rows, place])),
                log_probability.at[rows, place].set(jnp.where(any_left, nats, log_probability[rows, place])),
                revealed.at[rows, place].set(False),
            )

        revealed = waiting & (step == now[:, None])
        tokens, log_probability, _ = jax.lax.while_loop(
            lambda state: state[2].any(), next_place, (tokens, log_probability, revealed)
        )
        return tokens, log_probability, evaluations + waiting.any(axis=1)

    state = tokens, jnp.zeros(tokens.shape), jnp.zeros(batch, jnp.int32)
    tokens, log_probability, evaluations = jax.lax.while_loop(
        lambda state: (state[0] == mask_id).any(), next_step, state
    )
    return tokens, Trace(step, log_probability, evaluations)
