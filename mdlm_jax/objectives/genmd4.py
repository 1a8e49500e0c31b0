"""GenMD4: masked diffusion with a learned per-token masking schedule (arXiv 2406.04329, section 6)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mdlm_jax.data import Example
from mdlm_jax.objectives.base import Objective, View, full
from mdlm_jax.objectives.closed_form import at
from mdlm_jax.objectives.noised import continuous_time, importance_sampled_times, noised, noisy_tokens, times
from mdlm_jax.objectives.parameterizations import full_posterior
from mdlm_jax.processes.state_dependent import powers

INITIAL_POWER = 1.0


def genmd4(mask_id: int) -> Objective:
    """Token v is masked with probability t^w_v, w = softplus(objective_params) learned.

    There is no epsilon, so the ends of time cost nothing.

    A masked token costs (w_x / t) (-log p_x - 1) + sum_y (w_y / t) p_y. The network needs time conditioning: how long a
    position has been masked says something about its token. Two views at one t estimate the gradient through the draw
    by leave-one-out (RLOO, equation 12).
    """

    def process(objective_params):
        return powers(mask_id, jax.nn.softplus(objective_params["power"]))

    def init(key):
        return {"power": jnp.full(mask_id, jnp.log(jnp.expm1(INITIAL_POWER)))}

    def view(objective_params, key, example: Example, u) -> View:
        def one(key):
            return jax.tree.map(
                lambda field: field[0], noised(process(objective_params), example, key, continuous_time(u))
            )

        return jax.vmap(one)(jax.random.split(key))

    def token_loss(objective_params, logits: Float[Array, "*n V"], view: View) -> Float[Array, "*n"]:
        power = jax.nn.softplus(objective_params["power"])
        log_normaliser = jax.nn.logsumexp(logits, axis=-1)
        # as a product with a vector: the mean of the powers under the network's distribution
        weights = jnp.exp(logits - jax.lax.stop_gradient(logits.max(axis=-1, keepdims=True)))
        mean_power = jnp.matmul(weights, power, precision="highest") / weights.sum(axis=-1)
        surprise = power[view.targets] * (log_normaliser - at(logits, view.targets) - 1) + mean_power
        hidden = noisy_tokens(view) == mask_id
        return view.weight * jnp.where(hidden, surprise / times(view), 0)

    def surrogate(objective_params, nats: Float[Array, "K"], view: View) -> Float[Array, ""]:
        log_q = jax.vmap(lambda view: log_probability(objective_params, view))(view)
        baseline = nats[::-1]
        return 0.5 * (jax.lax.stop_gradient(nats - baseline) * (log_q - jax.lax.stop_gradient(log_q))).sum()

    def log_probability(objective_params, view: View) -> Float[Array, ""]:
        """log q(z | x) of one view."""
        power = jax.nn.softplus(objective_params["power"])[view.targets]
        log_hidden = power * jnp.log(times(view))
        hidden = noisy_tokens(view) == mask_id
        each = jnp.where(hidden, log_hidden, jnp.log(-jnp.expm1(jnp.where(hidden, -1, log_hidden))))
        return (view.weight * each).sum()

    objective = Objective(
        view,
        token_loss,
        full,
        bound="upper",
        estimator="random times, two draws each",
        init=init,
        surrogate=surrogate,
        views=2,
        parameterization=lambda objective_params: full_posterior(process(objective_params)),
        timed=True,
    )
    return objective._replace(evaluate=importance_sampled_times(objective))
