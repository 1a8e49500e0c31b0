"""Score entropy, the bound of continuous-time discrete diffusion: SEDD, GIDD, UDLM and Duo parameterize its scores
differently.

With r_y = q(y | x_0) / q(z | x_0) and s_y the network's ratio, an example costs

    integral over t of E_z[ sum over positions and y != z of R_t(y, z) (s_y - r_y log s_y + r_y (log r_y - 1)) ] +
    KL(q_1 || prior).

(SEDD, arXiv 2310.16834, equation 10.) GIDD's w [KL + IS] and the bounds of UDLM and Duo are this, with
s_y = q_t(y | p) / q_t(z | p) of a denoiser p that leaves the position itself out.
"""

from jaxtyping import Array, Float

from mdlm_jax.data import Example
from mdlm_jax.errors import UserError
from mdlm_jax.objectives.base import Objective, Parameterization, View, full
from mdlm_jax.objectives.closed_form import score_entropy_of
from mdlm_jax.objectives.noised import continuous_time, importance_sampled_times, noised, noisy_tokens, times
from mdlm_jax.objectives.parameterizations import full_posterior, leave_one_out, scaled_score, score
from mdlm_jax.processes import mixture
from mdlm_jax.processes.base import Process, mask_only
from mdlm_jax.schedules import Schedule, gaussian_argmax

SCORES = {"raw": score, "scaled": scaled_score, "denoiser": full_posterior}


def score_entropy(parameterization: Parameterization, timed: bool) -> Objective:
    """The bound above.

    Args:
        parameterization: How scores are read from logits, and the process.
        timed: The best network depends on t.

    Raises:
        UserError: The process is no mixture.
    """
    process = parameterization.process
    if process.mixture is None:
        raise UserError("process: accepted is one that mixes: absorbing, uniform, hybrid or gidd")

    def view(objective_params, key, example: Example, u) -> View:
        return noised(process, example, key, continuous_time(u))

    def token_loss(objective_params, logits: Float[Array, "*n V"], view: View) -> Float[Array, "*n"]:
        z, t = noisy_tokens(view), times(view)
        return view.weight * score_entropy_of(
            process, parameterization.scores(logits, view.targets, z, t), view.targets, z, t
        )

    objective = Objective(
        view,
        token_loss,
        full,
        bound="upper",
        estimator="random times",
        parameterization=lambda objective_params: parameterization,
        timed=timed,
    )
    return objective._replace(evaluate=importance_sampled_times(objective))


def sedd(process: Process, score: str) -> Objective:
    """SEDD (arXiv 2310.16834).

    With a denoiser and the absorbing state it is RADD's t-DSE, equal to the weighted cross-entropy of `masked` at
    every t and z.

    Args:
        process: The noise, a mixture.
        score: What the logits are: raw log scores; log scores scaled by e^sigma - 1; or those of a denoiser.

    Raises:
        UserError: Scaled scores without an absorbing state; or raw scores for noise that resamples the mask, whose loss
            needs a ratio of the mask, which has no logit.
    """
    if score not in SCORES:
        raise UserError(f"score={score!r}; accepted: {', '.join(SCORES)}")
    if score == "raw" and process.states > process.vocab and process.mixture and not process.mixture.mask_absorbs:
        raise UserError("score='raw'; accepted: denoiser, where the process resamples the mask")
    if score == "scaled" and not mask_only(process):
        raise UserError("score='scaled'; accepted: raw or denoiser, unless the process is absorbing")
    return score_entropy(SCORES[score](process), timed=score == "raw" or not mask_only(process))


def gidd(mask_id: int, schedule: Schedule, uniform_share: float, gamma: float) -> Objective:
    """GIDD's bound with unclipped weights (arXiv 2503.04482): between masked and uniform diffusion."""
    return score_entropy(leave_one_out(mixture.gidd(mask_id, schedule, uniform_share, gamma)), timed=True)


def udlm(mask_id: int, schedule: Schedule) -> Objective:
    """Uniform diffusion with a denoiser (UDLM, arXiv 2412.10193)."""
    return score_entropy(leave_one_out(mixture.uniform(mask_id, schedule)), timed=True)


def duo(mask_id: int) -> Objective:
    """Duo's bound (arXiv 2506.10892): UDLM's, on the schedule that Gaussian noise on one-hot vectors induces."""
    return udlm(mask_id, gaussian_argmax(mask_id))
