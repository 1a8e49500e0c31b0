"""Masked diffusion run backwards: every hidden token waits for its time, and is then drawn from the network."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mdlm_jax.sampling.base import Plan, Trace, TracedArguments, draw
from mdlm_jax.sampling.network import Network, logits_of, positions_of, read, uniform_at


def ancestral(keys: Array, network: Network, tokens: Int[Array, "B L"], plan: Plan, traced: TracedArguments):
    """T steps from t = 1 to 0: from t to s a mask is revealed with probability (alpha_s - alpha_t) / (1 - alpha_t).

    MDLM (arXiv 2406.07524) and RADD (arXiv 2406.03736). Tends to the network's own distribution as T grows; in one
    step tokens are drawn independently. At most min(T, L - P) evaluations a row.
    """
    num_steps = plan.steps or tokens.shape[1]
    times = jnp.linspace(1.0, 0.0, num_steps + 1)
    noised = plan.schedule(times)
    # the chances of staying hidden multiply to this; the last step leaves nothing hidden, whatever the schedule
    hidden = (noised / noised[0]).at[-1].set(0.0)
    step = jax.vmap(lambda key, positions: reveal_steps(key, hidden, positions))(
        _halves(keys)[0], positions_of(network, tokens)
    )
    times = jnp.broadcast_to(times, (len(tokens), num_steps + 1))
    return _reveal(keys, network, tokens, step, times, plan, traced)


def first_hitting(keys: Array, network: Network, tokens: Int[Array, "B L"], plan: Plan, traced: TracedArguments):
    """T = infinity: the masks are revealed one by one, at the times at which the reverse process reveals them.

    Of n masks the next goes at t u^(1 / n) (arXiv 2409.02908): the n times are n uniform numbers in falling order.
    Exact for its network; L - P evaluations. For the linear schedule, or a network that is not told the time.
    """
    chance = uniform_at(_halves(keys)[0], positions_of(network, tokens))
    chance = jnp.where(tokens == network.mask_id, chance, -1.0)
    order = jnp.argsort(-chance, axis=1)
    step = jnp.argsort(order, axis=1).astype(jnp.int32)
    times = jnp.take_along_axis(chance, order, axis=1)
    times = jnp.concatenate([times, jnp.zeros_like(times[:, :1])], axis=1)
    return _reveal(keys, network, tokens, step, times, plan, traced)


def reveal_steps(key: Array, hidden: Float[Array, "n"], positions: Int[Array, "L"]) -> Int[Array, "L"]:
    """In which step 0 .. T-1 each position is revealed; hidden[k] is its chance to be so in none of the first k.

    The network has no say in it, so the steps are drawn before it is run, all at once.
    """
    return jnp.searchsorted(-hidden[1:], -uniform_at(key[None], positions[None])[0], side="left").astype(jnp.int32)


def _halves(keys: Array) -> tuple[Array, Array]:
    """Each row's key for the times and for the tokens."""
    return tuple(jnp.unstack(jax.vmap(jax.random.split)(keys), axis=1))


def _reveal(keys, network: Network, tokens, step, times, plan: Plan, traced: TracedArguments):
    """Every position in its step, by what the network says then at times[row, step]."""
    batch, mask_id, num_steps = len(tokens), network.mask_id, times.shape[1] - 1
    rows, keys_tokens = jnp.arange(batch), _halves(keys)[1]
    step = jnp.where(tokens == mask_id, step, -1)

    def next_step(state):
        """Each row goes straight to the next step that reveals something: the network runs for no other (RADD)."""
        tokens, log_probability, evaluations = state
        waiting = tokens == mask_id
        now = jnp.where(waiting, step, num_steps).min(axis=1)
        out, _ = read(network, network.cache, tokens, times[rows, now])

        revealed = waiting & (step == now[:, None])
        tokens, log_probability = position(network, keys_tokens, out, tokens, log_probability, revealed, plan, traced)
        return tokens, log_probability, evaluations + waiting.any(axis=1)

    state = tokens, jnp.zeros(tokens.shape), jnp.zeros(batch, jnp.int32)
    tokens, log_probability, evaluations = jax.lax.while_loop(
        lambda state: (state[0] == mask_id).any(), next_step, state
    )
    return tokens, Trace(step, log_probability, evaluations)


def position(
    network: Network,
    keys: Array,
    hidden: Float[Array, "B L d"],
    tokens: Int[Array, "B L"],
    nats: Float[Array, "B L"],
    chosen: Bool[Array, "B L"],
    plan: Plan,
    traced: TracedArguments,
) -> tuple[Int[Array, "B L"], Float[Array, "B L"]]:
    """Tokens drawn at the chosen positions from what the network says of each, and their log probabilities in nats."""
    rows, positions = jnp.arange(len(tokens)), positions_of(network, tokens)

    def next_position(state):
        """One position of each row, so that logits exist for as many positions as there are rows."""
        tokens, nats, left = state
        here, any_left = left.argmax(axis=1), left.any(axis=1)
        keys_here = jax.vmap(jax.random.fold_in)(keys, positions[rows, here])
        logits = logits_of(network, hidden[rows, here])
        token, new = draw(keys_here, logits, traced.temperature, plan.top_k, plan.top_p)
        return (
            tokens.at[rows, here].set(jnp.where(any_left, token, tokens[rows, here])),
            nats.at[rows, here].set(jnp.where(any_left, new, nats[rows, here])),
            left.at[rows, here].set(False),
        )

    tokens, nats, _ = jax.lax.while_loop(lambda state: state[2].any(), next_position, (tokens, nats, chosen))
    return tokens, nats
