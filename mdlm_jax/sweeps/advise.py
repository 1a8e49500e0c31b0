"""From a kept fit and a budget to the config of one compute-optimal run."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from mdlm_jax.config import flatten, override, with_objective
from mdlm_jax.configs import base
from mdlm_jax.configs.sizes import SIZES
from mdlm_jax.costs import rules
from mdlm_jax.errors import UserError
from mdlm_jax.laws import KeptFit, Prediction, Refusal, Runs, loss_at, predict_loss
from mdlm_jax.report.groups import base_objective
from mdlm_jax.sweeps.plan import PlannedRun, plan_runs

# (learning rate, batch in tokens) of a planned run; None leaves the config's own
RULES: dict[str, Callable[[PlannedRun], tuple[float, float]] | None] = {
    "config": None,
    "smdm": lambda run: (rules.SMDM_LEARNING_RATES["paper"], float(rules.SMDM_BATCH_ROWS * 2048)),
    "deepseek": lambda run: (
        rules.deepseek_learning_rate(float(run.flops.six_attention)),
        rules.deepseek_batch(float(run.flops.six_attention)),
    ),
    "step_law": lambda run: (
        rules.step_law_learning_rate(float(run.parameters.non_embedding), float(run.tokens)),
        rules.step_law_batch(float(run.tokens)),
    ),
}


class Advice(NamedTuple):
    """The size of the ladder with the lowest predicted loss at a budget, as a run."""

    run: PlannedRun
    predicted: Prediction
    compared: int  # sizes whose loss the fit predicts
    edge: bool  # whether the best of these is the smallest or the largest, so that another may be better


def _runs_of(planned: list[PlannedRun]) -> Runs:
    sizes = np.array([run.parameters.non_embedding for run in planned], float)
    return Runs(sizes, np.array([run.tokens for run in planned], float))


def _planned_sizes(config: ConfigDict, budget: float) -> list[PlannedRun]:
    """A run at the budget for each size of the ladder that can take a step of it, smallest first."""
    planned, mistakes = [], []
    for size in SIZES:
        try:
            changed = override(config, [f"--config.model.size={size}", f"--config.budget={budget!r}"])
            planned += plan_runs([changed], [size])
        except UserError as error:
            mistakes.append(str(error))
    if not planned:
        raise UserError(mistakes[0])
    return sorted(planned, key=lambda run: run.parameters.non_embedding)


def advise(kept: KeptFit, objective: str, config: ConfigDict, budget: float, rule: str, devices: int = 1) -> Advice:
    """The compute-optimal run of a budget.

    The loss of every size of the ladder is predicted at the tokens that the budget gives it. The best gets the batch
    and the learning rate of a rule, and its tokens are then those of whole steps of that batch.

    Args:
        kept: The fit of the objective.
        objective: Its name, as in a report: that of a group counts as its objective.
        config: All else of the run: data, vocabulary, counter of the budget, and batch and rate of the rule 'config'.
        budget: FLOPs, by the counter of the config.
        rule: 'config', 'smdm', 'deepseek' or 'step_law' (`mj.costs.rules`).
        devices: The batch is a multiple of it.

    Raises:
        UserError: The rule is unknown, the config cannot be planned, or the fit predicts no size at this budget.
    """
    if rule not in RULES:
        raise UserError(f"--rule={rule}; accepted: {', '.join(RULES)}")
    name = base_objective(objective)
    config = config if config.objective.name == name else with_objective(config, name)
    planned, refused = [], []
    for run in _planned_sizes(config, budget):
        found = loss_at(kept.fitted, _runs_of([run]))
        (refused if isinstance(found, Refusal) else planned).append(found if isinstance(found, Refusal) else run)
    if not planned:
        raise UserError(f"budget {budget:.3g}: {refused[0].reason}; accepted: a budget nearer to those of the fit")
    best = int(np.argmin(loss_at(kept.fitted, _runs_of(planned))))
    run = _ruled(planned[best], rule, devices)
    predicted = predict_loss(*kept, _runs_of([run]))
    if isinstance(predicted, Refusal):
        raise UserError(f"budget {budget:.3g}: {predicted.reason}; accepted: a budget nearer to those of the fit")
    return Advice(run, predicted, len(planned), best in (0, len(planned) - 1))


def _ruled(run: PlannedRun, rule: str, devices: int) -> PlannedRun:
    """The run with the batch and the learning rate of a rule."""
    if (ruled := RULES[rule]) is None:
        return run
    rate, batch = ruled(run)
    rows = rules.rows(batch, run.config.data.sequence_length, devices)
    changes = [f"--config.optim.lr={float(f'{rate:.3g}')!r}", f"--config.train.batch_size={rows}"]
    return plan_runs([override(run.config, changes)], [run.run_id])[0]


def config_file(config: ConfigDict, about: str) -> str:
    """The text of a Python file whose `get_config` returns this config.

    >>> text = config_file(base.get_config(), "The defaults.")
    >>> text.splitlines()[-2:]
    ['    config = base.get_config()', '    return config']
    """
    defaults = dict(flatten(base.get_config()))
    changed = [f"    config.{key} = {value!r}" for key, value in flatten(config) if value != defaults[key]]
    lines = [f'"""{about}"""', "", "from ml_collections import ConfigDict", "", "from mdlm_jax.configs import base"]
    lines += [
        "",
        "",
        "def get_config() -> ConfigDict:",
        "    config = base.get_config()",
        *changed,
        "    return config",
    ]
    return "\n".join(lines) + "\n"
