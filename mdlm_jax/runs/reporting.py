"""Reports of each step and each validation."""

import contextlib
import math
import pathlib
from collections import deque
from collections.abc import Callable, Generator, Iterator
from typing import NamedTuple

import jax
from ml_collections import ConfigDict

from mdlm_jax.build import Build
from mdlm_jax.build.training import learning_rate
from mdlm_jax.costs.hardware import Peak
from mdlm_jax.evaluation.likelihood import Likelihood
from mdlm_jax.runs.metrics import open_writer, progress
from mdlm_jax.runs.rewind import BadLoss
from mdlm_jax.runs.run_folder import bytes_per_token

REPORTED = ("loss", "gradient_norm", "data_wait_seconds", "compile_seconds")
NOISE = ("gradient_squared_norm", "gradient_variance")  # of a batch of several parts


def noise_scales() -> Generator[float, tuple[float, float], None]:
    """A generator that receives (squared norm, variance) of each step and yields the gradient noise scale in rows.

    It is the mean variance over the mean squared norm of the last 100 steps; NaN while the latter is not above 0.
    """
    last: deque[tuple[float, float]] = deque(maxlen=100)
    scale = math.nan
    while True:
        noise = yield scale
        if all(map(math.isfinite, noise)):
            last.append(noise)
        squares, variances = (sum(values) for values in zip(*last, strict=True)) if last else (0.0, 0.0)
        scale = variances / squares if squares > 0 else math.nan


class Report(NamedTuple):
    """The functions by which a run reports."""

    step: Callable[[int, dict, float], None]  # (step, its metrics, when it ended); BadLoss unless such are skipped
    validation: Callable[[int, Likelihood], None]
    say: Callable[[str], None]


def _memory() -> dict[str, int]:
    """Bytes in use on this process's first device at its peak; nothing where the device does not count them."""
    used = (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    return {} if used is None else {"memory_bytes": used}


@contextlib.contextmanager
def open_report(
    config: ConfigDict, built: Build, folder: pathlib.Path, *, start: int, peak: Peak, shown: bool
) -> Iterator[Report]:
    """Opens the reports of a run.

    Args:
        config: The run's config.
        built: Its build.
        folder: The run's folder.
        start: Steps taken so far.
        peak: FLOP/s that the devices can reach together.
        shown: Print progress.
    """
    plan, numbers, flops_per_step = built.plan, built.initial[1], float(built.plan.flops_per_step.exact)
    with open_writer(folder, config.train.loggers, start) as writer:
        reported = REPORTED + ("trained_loss",) * (built.options.loss_per != "token")
        reported += tuple(f"{task}_nats_per_row" for task in built.objective.tasks)
        rates = progress(plan.steps, plan.tokens_per_step, flops_per_step, peak, shown and jax.process_index() == 0)
        next(rates)
        scales = noise_scales()
        next(scales)

        def report_step(step: int, metrics: dict, ended: float) -> None:
            scalars = {name: float(metrics[name]) for name in reported}
            noise = {name: float(metrics[name]) for name in NOISE if name in metrics}
            if noise:
                noise["gradient_noise_scale"] = scales.send((noise[NOISE[0]], noise[NOISE[1]]))
            if metrics["bad"] and not built.options.skip_bad:
                loss, norm = scalars["loss"], scalars["gradient_norm"]
                kind = " (a spike)" if math.isfinite(loss) and math.isfinite(norm) else ""
                raise BadLoss(step, f"loss {loss}{kind}, gradient norm {norm}, peak learning rate {config.optim.lr:g}")
            if step % config.train.log_every == 0 or step in (start + 1, plan.steps):
                scalars = {"step": step, "flops": step * flops_per_step} | scalars | noise
                scalars |= {"learning_rate": learning_rate(config, numbers, step)} | _memory()
                writer.write(scalars | rates.send((step, scalars["loss"], ended)))

        def report_validation(step: int, found: Likelihood) -> None:
            writer.write(
                {
                    "step": step,
                    "flops": step * flops_per_step,
                    "validation_loss": found.nats_per_token,
                    "validation_standard_error": found.standard_error,
                    "validation_perplexity": found.perplexity,
                    "bits_per_byte": found.bits_per_byte(bytes_per_token(built.data)),
                }
            )

        yield Report(report_step, report_validation, writer.say)
