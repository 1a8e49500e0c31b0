"""D3PM: the variational bound of a chain of T steps, any process (arXiv 2107.03006)."""

import jax
import jax.numpy as jnp
from jax.scipy.special import xlogy
from jaxtyping import Array, Float, Int

from mdlm_jax.data import Example
from mdlm_jax.errors import UserError
from mdlm_jax.objectives.base import Objective, View, cross_entropy, full
from mdlm_jax.objectives.closed_form import log, step_divergence
from mdlm_jax.objectives.masked import MOST_STEPS
from mdlm_jax.objectives.noised import noised, noisy_tokens, one_hot, times
from mdlm_jax.objectives.parameterizations import leave_one_out
from mdlm_jax.processes.base import Process, mask_only, posterior

MOST_MIXING_STEPS = 10_000  # beyond, float32 loses more than 0.2% of a step's divergence, unless noise only masks


def d3pm(process: Process, num_steps: int, auxiliary: float) -> Objective:
    """KL(q(x_T | x_0) || prior) + sum over t of KL(q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t)), one t drawn a row.

    p plugs the network's distribution into the posterior (equation 4): its optimum is the leave-one-out distribution.
    At the first step the KL is -log p(x_0 | x_1).

    Args:
        process: The noise.
        num_steps: T. Noise that mixes tokens allows 10,000, absorbing noise 2^23.
        auxiliary: D3PM's lambda: the weight of an added cross-entropy (equation 5). The sum is no bound, and what is
            reported leaves it out.

    Raises:
        UserError: num_steps or auxiliary is out of range.
    """
    most = MOST_STEPS if mask_only(process) else MOST_MIXING_STEPS
    if not 1 <= num_steps <= most:
        raise UserError(f"num_steps={num_steps}; accepted: 1 to {most}")
    if auxiliary < 0:
        raise UserError(f"auxiliary={auxiliary}; accepted: 0 or more")

    def view(objective_params, key, example: Example, u) -> View:
        step = jnp.floor(u * num_steps) + 1
        return noised(process, example, key, step / num_steps)

    def token_loss(objective_params, logits: Float[Array, "*n V"], view: View) -> Float[Array, "*n"]:
        divergence = step_kl(process, logits, view.targets, noisy_tokens(view), times(view), 1 / num_steps)
        hint = auxiliary * cross_entropy(objective_params, logits, view) if auxiliary else 0
        return num_steps * view.weight * divergence + hint

    step_kl = dense_divergence if process.mixture is None else step_divergence
    parameterization = leave_one_out(process)
    bound = Objective(
        view,
        token_loss,
        full,
        bound="none" if auxiliary else "upper",
        estimator=f"random steps of {num_steps}",
        parameterization=lambda objective_params: parameterization,
        num_steps=num_steps,
        timed=not mask_only(process),
    )
    return bound._replace(evaluate=d3pm(process, num_steps, 0.0)) if auxiliary else bound


def dense_divergence(
    process: Process,
    logits: Float[Array, "*n V"],
    x: Int[Array, "*n"],
    z: Int[Array, "*n"],
    t: Float[Array, "*#n"],
    width: Float[Array, "*#n"] | float,
) -> Float[Array, "*n"]:
    """The KL of `step_divergence` by its definition, over all states: for processes given by matrices."""
    s = jnp.maximum(t - width, 0)
    true = posterior(process, z, one_hot(x, process.vocab), s, t)
    ours = posterior(process, z, jax.nn.softmax(logits, axis=-1), s, t)
    return (xlogy(true, true) - true * log(ours)).sum(axis=-1)
