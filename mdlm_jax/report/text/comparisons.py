"""What runs on repeated data and runs that were given the same say of two objectives, in sentences."""

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
    """From how many epochs on each objective is below the reference, or that it is not within those that were run."""
    sentences = []
    for reference, other, crossing in found.overtakings:
        where = f"On {number(found.unique_tokens)} unique tokens, each at its best size, {other} against {reference}: "
        if isinstance(crossing, Refusal):
            sentences.append(f"{where}the crossover is refused: {crossing.reason}.")
            continue
        within = f"{number(crossing.first_epochs)} to {number(crossing.last_epochs)} epochs"
        interval = f"95% interval {_end(crossing.low, crossing)} to {_end(crossing.high, crossing)}"
        if 0 < crossing.epochs < np.inf:
            text = f"{where}{other} has the lower loss from {crossing.epochs:.3g} epochs on ({interval})."
        else:
            lower = other if crossing.epochs == 0 else reference
            text = f"{where}no crossover within {within}, {lower} has the lower loss at the last ({interval})."
        if crossing.degrees == 0:
            text += " One seed a cell: the interval knows the Monte Carlo errors only, and is too narrow."
        sentences.append(text)
    return sentences


def differences(cell: Cell) -> list[str]:
    """Each objective less the reference, paired by seed."""
    sentences = []
    for reference, other, value in cell.differences:
        where = f"{other} less {reference} at {cell.size} and {cell.spent}: "
        if isinstance(value, Refusal):
            sentences.append(f"{where}refused: {value.reason} in common.")
            continue
        shown = "" if value.low > 0 or value.high < 0 else " The interval covers 0: no difference is shown."
        sentences.append(
            f"{where}{value.mean:+.4f} nats per token (95% interval {value.low:+.4f} to {value.high:+.4f}, "
            f"{value.seeds} seeds, paired).{shown}"
        )
    return sentences
