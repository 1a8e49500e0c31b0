"""How much one loss varies, and why, in sentences."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from mdlm_jax.laws import seed_deviation
from mdlm_jax.runs.result import Result


def noise(results: Sequence[Result]) -> list[str]:
    """One sentence for each objective: the standard deviation between seeds, of noise draws, of the validation text."""
    runs = defaultdict(list)
    for run in results:
        if run.status == "done":
            runs[run.objective].append(run)
    return [_of_objective(name, mine) for name, mine in runs.items()]


def _of_objective(name: str, runs: Sequence[Result]) -> str:
    cells = defaultdict(list)
    for run in runs:
        cells[run.size, run.budget or run.tokens, run.unique_tokens, run.learning_rate].append(run.loss)
    between = seed_deviation(cells.values())
    draws = float(np.mean([run.loss_monte_carlo_error**2 for run in runs]))
    text = max(float(np.mean([run.loss_standard_error**2 for run in runs])) - draws, 0.0)
    parts = ["unknown between seeds, as each run has one" if np.isnan(between) else f"{between:.4f} between seeds"]
    parts += [f"{np.sqrt(draws):.4f} from noise draws"] if draws else []
    parts.append(f"{np.sqrt(text):.4f} from the choice of validation text, which all runs share")
    return f"{name}: the standard deviation of one loss in nats is {', '.join(parts[:-1])} and {parts[-1]}."
