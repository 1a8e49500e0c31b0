"""What a person sees of a run: metrics.jsonl always, one live line, TensorBoard and Weights & Biases when asked for."""

import contextlib
import json
import math
import pathlib
import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from typing import NamedTuple

import jax

from mdlm_jax.errors import UserError
from mdlm_jax.files import write_whole


class Writer(NamedTuple):
    """Where numbers go. Only the first process of several writes."""

    write: Callable[[dict], None]  # scalars by name, with `step`
    close: Callable[[], None]
    say: Callable[[str], None] = lambda line: None


@contextlib.contextmanager
def open_writer(folder: pathlib.Path, loggers: str, start_step: int) -> Iterator[Writer]:
    """metrics.jsonl in `folder`, and the loggers named, separated by commas.

    What an interrupted run wrote after its last checkpoint is dropped: those steps are taken again. Raises UserError
    where a logger is not installed.
    """
    if jax.process_index() > 0:
        yield Writer(lambda scalars: None, lambda: None)
        return
    path = folder / "metrics.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    # a line that was being written when the run was killed has no end
    kept = [line + "\n" for line in lines if line.endswith("}") and json.loads(line)["step"] <= start_step]
    write_whole(path, "".join(kept))
    file = path.open("a", encoding="utf-8", buffering=1)
    sinks = [SINKS[name](folder) for name in filter(None, loggers.split(","))]

    def write(scalars: dict) -> None:
        scalars = {
            name: value if value is not None and math.isfinite(value) else None for name, value in scalars.items()
        }  # NaN is not JSON
        file.write(json.dumps(scalars) + "\n")
        for sink in sinks:
            sink.write({name: value for name, value in scalars.items() if value is not None})

    def close() -> None:
        file.close()
        for sink in sinks:
            sink.close()

    try:
        yield Writer(write, close, lambda line: print(line, file=sys.stderr, flush=True))
    finally:
        close()


def _tensorboard(folder: pathlib.Path) -> Writer:
    try:
        from tensorboardX import SummaryWriter
    except ImportError as error:
        raise UserError("config.train.loggers has tensorboard; it needs: pip install 'mdlm-jax[loggers]'") from error
    board = SummaryWriter(str(folder / "tensorboard"))

    def write(scalars: dict) -> None:
        for name, value in scalars.items():
            if name != "step":
                board.add_scalar(name, value, scalars["step"])

    return Writer(write, board.close)


def _wandb(folder: pathlib.Path) -> Writer:
    try:
        import wandb
    except ImportError as error:
        raise UserError("config.train.loggers has wandb; it needs: pip install 'mdlm-jax[loggers]'") from error
    run = wandb.init(project="mdlm-jax", name=folder.name, id=folder.name, resume="allow", dir=str(folder))
    return Writer(lambda scalars: run.log(scalars, step=scalars["step"]), run.finish)


SINKS = {"tensorboard": _tensorboard, "wandb": _wandb}


def progress(
    steps: int, tokens_per_step: int, flops_per_step: float, peak: float, shown: bool
) -> Generator[dict, tuple, None]:
    """A generator that is sent (step, loss) and gives scalars: the mean of ten reports, tokens/s, MFU, seconds left.

    Prints them where they are to be `shown`: over one another in a terminal, as lines elsewhere. The rate is that since
    the last report.
    """
    live = sys.stderr.isatty()
    step, loss = yield {}
    recent, before, then = deque([loss], maxlen=10), step, time.perf_counter()
    scalars = {}
    while True:
        step, loss = yield scalars
        now = time.perf_counter()
        rate = (step - before) / (now - then)
        if math.isfinite(loss):
            recent.append(loss)
        mean, before, then = sum(recent) / len(recent), step, now
        scalars = {
            "loss_mean": mean,
            "tokens_per_second": rate * tokens_per_step,
            "mfu": rate * flops_per_step / peak,
            "seconds_left": (steps - step) / rate,
        }
        text = (
            f"step {step:,}/{steps:,}  loss {loss:.4f} (mean {mean:.4f})  {scalars['tokens_per_second']:,.0f} tokens/s"
            f"  MFU {scalars['mfu']:.1%}  {clock(scalars['seconds_left'])} left"
        )
        ends_line = not live or step >= steps
        if shown:
            print(f"\r{text}\033[K" if live else text, end="\n" if ends_line else "", file=sys.stderr, flush=True)


def clock(seconds: float) -> str:
    """h:mm:ss, or m:ss under an hour."""
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
