"""The metrics of a run: metrics.jsonl always, one live line, TensorBoard and Weights & Biases where configured."""

import contextlib
import json
import math
import pathlib
import sys
import uuid
from collections import deque
from collections.abc import Callable, Generator, Iterator
from typing import NamedTuple

import jax

from mdlm_jax.costs.hardware import Peak, utilisation
from mdlm_jax.errors import UserError
from mdlm_jax.files import write_whole
from mdlm_jax.objectives.modality_tasks import TASKS
from mdlm_jax.runs.say import clock


class Writer(NamedTuple):
    """Writes metrics. Of several processes only the first writes."""

    write: Callable[[dict], None]  # scalars by name, with `step`
    close: Callable[[], None]
    say: Callable[[str], None] = lambda line: None


def _step(line: str) -> float:
    """The step of a line; infinity for one that is broken, as where the run was killed while it wrote."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return math.inf


@contextlib.contextmanager
def open_writer(folder: pathlib.Path, loggers: str, start_step: int) -> Iterator[Writer]:
    """Opens metrics.jsonl and the loggers.

    Lines that an interrupted run wrote after its last checkpoint are dropped, because the run repeats those steps.

    Args:
        folder: The run's folder.
        loggers: Keys of SINKS, separated by commas.
        start_step: Steps taken so far.

    Raises:
        UserError: A logger is not installed.
    """
    if jax.process_index() > 0:
        yield Writer(lambda scalars: None, lambda: None)
        return
    path = folder / "metrics.jsonl"
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    write_whole(path, "".join(line + "\n" for line in lines if _is_kept(line, start_step)))
    file = path.open("a", encoding="utf-8", buffering=1)
    sinks = [SINKS[name](folder, start_step) for name in filter(None, loggers.split(","))]

    def write(scalars: dict) -> None:
        scalars = {
            name: value if value is not None and math.isfinite(value) else None for name, value in scalars.items()
        }  # NaN is not JSON
        file.write(json.dumps(scalars) + "\n")
        names = GROUPS | VALIDATION_GROUPS if "validation_loss" in scalars else GROUPS
        grouped = {names.get(name, name): value for name, value in scalars.items() if value is not None}
        for sink in sinks:
            sink.write(grouped)

    def close() -> None:
        file.close()
        for sink in sinks:
            sink.close()

    try:
        yield Writer(write, close, lambda line: print(line, file=sys.stderr, flush=True))
    finally:
        close()


def _is_kept(line: str, start_step: int) -> bool:
    """Whether a line is complete and its step is not repeated. A kill may leave a line without its end."""
    try:
        return json.loads(line)["step"] <= start_step
    except (ValueError, TypeError, KeyError, RecursionError):
        return False


# name in metrics.jsonl -> name for loggers, which group by the part before the slash
GROUPS = {
    **{
        name: f"train/{name}"
        for name in ("loss", "trained_loss", "loss_mean", "gradient_norm", "learning_rate", "flops")
    },
    **{name: f"speed/{name}" for name in ("tokens_per_second", "mfu", "data_wait_seconds", "compile_seconds")},
    **{f"{task}_nats_per_row": f"tasks/{task}" for task in TASKS},
    "gradient_noise_scale": "gradient_noise/scale_in_rows",
    "gradient_squared_norm": "gradient_noise/squared_norm",
    "gradient_variance": "gradient_noise/variance_of_a_row",
    **{"seconds_left": "speed/seconds_left", "memory_bytes": "memory/bytes_at_peak"},
    **{"validation_loss": "validation/loss", "validation_standard_error": "validation/standard_error"},
    **{"validation_perplexity": "validation/perplexity", "bits_per_byte": "validation/bits_per_byte"},
}
VALIDATION_GROUPS = {"flops": "validation/flops"}  # of the step that has `train/flops` already


def _tensorboard(folder: pathlib.Path, start_step: int) -> Writer:
    try:
        from tensorboardX import SummaryWriter
    except ImportError as error:
        raise UserError("config.train.loggers has tensorboard; it needs: pip install 'mdlm-jax[loggers]'") from error
    # TensorBoard drops the points after `start_step`, because those steps are repeated. It reads files in the order of
    # their names; the number keeps the names of two files written within a second apart
    number = len(list((folder / "tensorboard").glob("*tfevents*")))
    board = SummaryWriter(str(folder / "tensorboard"), purge_step=start_step + 1, filename_suffix=f".{number:04}")

    def write(scalars: dict) -> None:
        for name, value in scalars.items():
            if name != "step":
                board.add_scalar(name, value, scalars["step"])

    return Writer(write, board.close)


def _wandb(folder: pathlib.Path, start_step: int) -> Writer:
    try:
        import wandb
    except ImportError as error:
        raise UserError("config.train.loggers has wandb; it needs: pip install 'mdlm-jax[loggers]'") from error
    identity = folder / "wandb_id"  # two runs may have folders of one name
    if not identity.exists():
        write_whole(identity, uuid.uuid4().hex)
    try:
        run = wandb.init(project="mdlm-jax", name=folder.name, id=identity.read_text(), resume="allow", dir=str(folder))
    except wandb.Error as error:  # without a key, or without an answer from its server
        cause = str(error).splitlines()[0]
        raise UserError(
            f"config.train.loggers has wandb: {cause}; accepted: after `wandb login`, or with WANDB_MODE=offline"
        ) from error
    # W&B's own step can only rise; with a step metric, the later point of a repeated step counts
    run.define_metric("step")
    run.define_metric("*", step_metric="step")
    return Writer(run.log, run.finish)


SINKS = {"tensorboard": _tensorboard, "wandb": _wandb}


def progress(
    steps: int, tokens_per_step: int, flops_per_step: float, peak: Peak, shown: bool
) -> Generator[dict, tuple, None]:
    """A generator that receives (step, loss, time) and yields scalars: mean loss of ten reports, rates, seconds left.

    The time is that of `time.perf_counter` when the step ended. Rates cover the time since the last report. MFU is
    None if it would exceed the measured peak.

    Args:
        steps: Steps of the run.
        tokens_per_step: Tokens of a step.
        flops_per_step: FLOPs of a step.
        peak: FLOP/s that the devices can reach together.
        shown: Print a live line in a terminal, or separate lines elsewhere.
    """
    live = sys.stderr.isatty()
    step, loss, then = yield {}
    recent, before = deque([loss], maxlen=10), step
    scalars = {}
    while True:
        step, loss, now = yield scalars
        rate = (step - before) / (now - then)
        if math.isfinite(loss):
            recent.append(loss)
        mean, before, then = sum(recent) / len(recent), step, now
        mfu, peak = utilisation(peak, rate * flops_per_step)
        scalars = {
            "loss_mean": mean,
            "tokens_per_second": rate * tokens_per_step,
            "mfu": mfu,
            "seconds_left": (steps - step) / rate,
        }
        text = (
            f"step {step:,}/{steps:,}  loss {loss:.4f} (mean {mean:.4f})  {scalars['tokens_per_second']:,.0f} tokens/s"
            + ("" if mfu is None else f"  MFU {mfu:.1%}")
            + f"  {clock(scalars['seconds_left'])} left"
        )
        ends_line = not live or step >= steps
        if shown:
            print(f"\r{text}\033[K" if live else text, end="\n" if ends_line else "", file=sys.stderr, flush=True)
