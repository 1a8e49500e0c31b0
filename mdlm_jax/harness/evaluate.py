"""Tasks of the LM evaluation harness for a run or a public model, with the error of every number."""

import copy
import difflib
import json
import pathlib
from collections.abc import Callable, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

from mdlm_jax.config import from_json
from mdlm_jax.errors import UserError
from mdlm_jax.files import write_whole
from mdlm_jax.harness.lines import ITEMS, Lines
from mdlm_jax.harness.prompts import AS_THE_TASK_SAYS, Prompts, check_prompts, check_shots
from mdlm_jax.harness.task_folder import check_task_folder
from mdlm_jax.runs.answer_nats import described
from mdlm_jax.weights.source import holds_weights

RESULTS = "results.json"


def check_installed() -> None:
    """Raises UserError where the harness is not installed."""
    if find_spec("lm_eval") is None:
        raise UserError("lm_eval is not installed; accepted: after pip install 'mdlm-jax[harness]'")


def harness(
    folder: pathlib.Path,
    tasks: Sequence[str],
    out: pathlib.Path,
    *,
    include_path: pathlib.Path | None = None,
    limit: int | None = None,
    prompts: Prompts = AS_THE_TASK_SAYS,
    **settings: Any,
) -> dict[str, Any]:
    """Runs tasks. Writes the metrics into results.json, each request's score into scores.jsonl or its text into
    texts.jsonl, each item's metrics into items.jsonl.

    Answers are kept in `out` as they come: a second call computes only what is missing.

    Args:
        folder: A run or a public model.
        tasks: Names or patterns of tasks, of the harness or of `include_path`.
        out: The folder for results and answers.
        include_path: A folder with task files of the user's own.
        limit: Documents of each task. Default: all.
        prompts: How a document becomes a prompt.
        settings: Further arguments of `HarnessModel`.

    Returns:
        What results.json says.

    Raises:
        UserError: The harness is not installed, or a task, the model or a setting is not as above.
    """
    check_installed()
    if limit is not None and limit < 1:
        raise UserError(f"--limit={limit}; accepted: 1 or more documents of each task")
    check_prompts(prompts)
    if not holds_weights(folder):
        from_json(folder / "config.json")  # the index of all tasks takes many seconds
    check_task_folder(include_path)
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    from mdlm_jax.harness.adapter import HarnessModel
    from mdlm_jax.harness.items import keep_items

    manager = _theirs(
        f"--include-path={include_path}", lambda: TaskManager(include_path=str(include_path) if include_path else None)
    )
    names = [name for task in tasks for name in _names(manager, task)]
    found: dict[str, dict[str, Any]] = {}
    for name in names:  # data may be missing, or the task file wrong
        for kind, some in _theirs(f"--tasks={name}", lambda name=name: manager.load([name])).items():
            found[kind] = found.get(kind, {}) | some
    loaded = found["tasks"]
    check_shots(loaded, prompts.shots)
    kinds = {task.OUTPUT_TYPE for task in loaded.values()}
    model = HarnessModel(folder, out, chat=prompts.chat, kinds=kinds, **settings)
    items = Lines(out / ITEMS)
    for name, task in loaded.items():
        keep_items(task, name, items)
    opened = copy.copy(manager)
    opened.load = lambda names: found  # the harness would read all documents a second time
    done: Any = simple_evaluate(
        model,
        tasks=names,
        task_manager=opened,
        limit=limit,
        num_fewshot=prompts.shots,
        apply_chat_template=prompts.chat,
        system_instruction=prompts.system,
        fewshot_as_multiturn=prompts.shots_as_turns,
        log_samples=False,
    )
    return _write(folder, out, model, done, prompts, items)


def _theirs(where: str, call: Callable[[], Any]) -> Any:
    """What the harness makes of files, with its error in one line."""
    try:
        return call()
    except Exception as error:  # of YAML, of data sets, of functions in task files
        raise UserError(f"{where}: lm_eval cannot load it ({' '.join(str(error).split())[:200]})") from error


def _names(manager: Any, task: str) -> list[str]:
    """The tasks of a name or a pattern."""
    names = manager.match_tasks([task])
    if not names:
        near = difflib.get_close_matches(task, manager.all_tasks, n=3)
        accepted = f"such as {', '.join(near)}" if near else "a task of lm_eval, or of a file in --include-path"
        raise UserError(f"--tasks={task}: no such task; accepted: {accepted}")
    return names


def _write(
    folder: pathlib.Path,
    out: pathlib.Path,
    model: Any,
    found: dict[str, Any],
    prompts: Prompts,
    items: Lines,
) -> dict[str, Any]:
    run = model.scorer.run
    result = {
        "model": folder.name,
        "step": run.step,
        "weights": model.scorer.digest,
        "objective": run.config.objective.name,
        **described(run, model.scorer.asked),
        **prompts._asdict(),
        "shots": found["n-shot"],
        "length": model.scorer.reader.most,
        "lm_eval": version("lm_eval"),
        "results": found["results"],
        "higher_is_better": found["higher_is_better"],
        "versions": found["versions"],
        "likelihoods": _totals(model),
    }
    text = json.dumps(result, indent=1, default=str)
    try:
        for lines in (model.scored, model.drawn, items):
            lines.finish()
        write_whole(out / RESULTS, text + "\n")
    except OSError as error:
        raise UserError(f"--out={out}: cannot be written ({error.strerror})") from error
    return json.loads(text)


def _totals(model: Any) -> dict[str, dict[str, Any]]:
    """Of each task: its scored requests and tokens, the mean nats per request, and the error of the noise."""
    return {
        task: {
            "requests": total.requests,
            "tokens": total.tokens,
            "nats_per_request": total.nats / total.requests,
            "nats_per_request_monte_carlo_error": total.variance**0.5 / total.requests,
        }
        for task, total in model.totals.items()
    }
