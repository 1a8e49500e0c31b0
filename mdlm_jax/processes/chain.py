"""Any continuous-time Markov chain, from its generator: tauLDR's setting (arXiv 2205.14987), for small vocabularies."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import expm
from jaxtyping import Float
from scipy.special import rel_entr

from mdlm_jax.errors import UserError
from mdlm_jax.processes.base import Process, check_time, draw
from mdlm_jax.processes.matrix import check_size
from mdlm_jax.schedules import Schedule, check_schedule

MOST_NOISE = 69.0  # sigma at t = 1, where it would be infinite: e^-69 of the tokens are still untouched


def chain(generator: Float[np.ndarray, "S S"], schedule: Schedule, vocab: int | None = None) -> Process:
    """R_t = sigma'(t) R_b, sigma = -log(1 - schedule(t)): from s to t by expm((sigma_t - sigma_s) R_b).

    With R_b = 1 1^T / V - I it is `uniform`, with rate 1 into the mask it is `absorbing`. `vocab` is S, or S - 1 where
    the last state is the mask. The prior is where a uniform token ends. Raises UserError for a generator that is none.
    """
    states = len(generator)
    vocab = vocab or states
    check_size("generator", vocab)
    check_schedule("schedule", schedule)
    off_diagonal = generator - np.diag(np.diag(generator))
    if off_diagonal.min() < 0 or np.abs(generator.sum(axis=1)).max() > 1e-9 * max(1.0, np.abs(generator).max()):
        raise UserError(
            f"generator: least rate {off_diagonal.min():g}, row sums up to {np.abs(generator.sum(axis=1)).max():g}; "
            "accepted: no rate below 0 off the diagonal, rows that sum to 0"
        )
    out = -np.diag(generator)

    def sigma(t):
        noised = schedule(t)
        return jnp.where(noised < 1, -jnp.log1p(-jnp.where(noised < 1, noised, 0)), MOST_NOISE)

    def transition(s, t):
        growth = sigma(t) - sigma(s)
        return jnp.maximum(expm(growth[..., None, None] * jnp.asarray(generator, growth.dtype)), 0)

    def speed(t):
        return jax.jvp(sigma, (t,), (jnp.ones_like(t),))[1]

    def forward(probs, t):
        check_time("t", t)
        return jnp.einsum(
            "...v,...vy->...y", probs, transition(jnp.zeros_like(t), t)[..., :vocab, :], precision="highest"
        )

    def backward(z, s, t):
        check_time("t", t)
        return jnp.einsum(
            "...yz,...z->...y", transition(s, t), jax.nn.one_hot(z, states, dtype=t.dtype), precision="highest"
        )

    def rate(z, t):
        check_time("t", t)
        into = jnp.asarray(off_diagonal, t.dtype).T[z]
        return speed(t)[..., None] * into

    def exit(x, t):
        check_time("t", t)
        return speed(t) * jnp.asarray(out, t.dtype)[x]

    with jax.ensure_compile_time_eval():
        ends = np.asarray(forward(jnp.eye(vocab), jnp.ones(vocab)), np.float64)
    prior = ends.mean(axis=0)
    to_prior = rel_entr(ends, prior).sum(axis=1)
    return Process(
        vocab,
        states,
        jnp.asarray(prior),
        lambda x: jnp.asarray(to_prior)[x],
        lambda key, x, t: draw(key, forward(jax.nn.one_hot(x, vocab), t)),
        forward,
        backward,
        rate,
        exit,
        lambda key, x, t: draw(key, jnp.asarray(off_diagonal)[x]),
    )
