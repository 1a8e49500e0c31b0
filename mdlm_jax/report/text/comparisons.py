"""Comparisons of two objectives on repeated data, and at one size and budget, in sentences."""

import numpy as np

from mdlm_jax.laws import Crossing, Refusal
from mdlm_jax.report.equal_compute import Cell
from mdlm_jax.report.repeated import Repeated
from mdlm_jax.style import number


def _end(epochs: float, crossing: Crossing) -> str:
    if epochs == 0:
        return f"before {number(crossing.first_epochs)}"
    return f"beyond {number(crossing.last_epochs)}" if np.isinf(epochs) else f"{epochs:.3g}"


def overtakings(found: Repeated) -> list[str]:
    """The number of epochs from which each objective has a lower loss than the reference, if there is one."""
    sentences = []
    for reference, other, crossing in found.overtakings:
        where = f"{other} against {reference} on {number(found.unique_tokens)} unique tokens, each at its best size: "
        if isinstance(crossing, Refusal):
            sentences.append(f"{where}there is no crossover, because {crossing.reason}.")
            continue
        within = f"{number(crossing.first_epochs)} to {number(crossing.last_epochs)} epochs"
        interval = f"95% interval {_end(crossing.low, crossing)} to {_end(crossing.high, crossing)}"
        if 0 < crossing.epochs < np.inf:
            text = f"{where}{other} has the lower loss from {crossing.epochs:.3g} epochs on ({interval})."
        else:
            lower = other if crossing.epochs == 0 else reference
            text = f"{where}no crossover within {within}. {lower} has the lower loss at the last ({interval})."
        if crossing.degrees == 0:
            text += " There is one seed, so the interval contains only Monte Carlo errors and is too narrow."
        sentences.append(text)
    return sentences


def differences(cell: Cell) -> list[str]:
    """The loss of each objective minus that of the reference, paired by seed."""
    sentences = []
    for reference, other, value in cell.differences:
        where = f"{other} minus {reference} at size {cell.size} and {cell.spent}: "
        if isinstance(value, Refusal):
            sentences.append(f"{where}no difference is given, because {value.reason}.")
            continue
        shown = "" if value.low > 0 or value.high < 0 else " The interval covers 0: it shows no difference."
        sentences.append(
            f"{where}{value.mean:+.4f} nats per token (95% interval {value.low:+.4f} to {value.high:+.4f}, "
            f"{value.seeds} seeds, paired).{shown}"
        )
    return sentences
