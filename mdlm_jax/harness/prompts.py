"""How documents become prompts: with the chat template, a system message and examples."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from mdlm_jax.errors import UserError


class Prompts(NamedTuple):
    """The harness's `apply_chat_template`, `system_instruction`, `num_fewshot` and `fewshot_as_multiturn`."""

    chat: bool = False
    system: str | None = None
    shots: int | None = None  # examples before each document; None: as many as the task says
    shots_as_turns: bool = False  # each example is a question and an answer of the conversation


AS_THE_TASK_SAYS = Prompts()


def check_prompts(prompts: Prompts) -> None:
    """Raises UserError if the settings do not go together."""
    if prompts.shots is not None and prompts.shots < 0:
        raise UserError(f"--shots={prompts.shots}; accepted: 0 or more examples before each document")
    if prompts.shots_as_turns and not prompts.chat:
        raise UserError("--shots-as-turns; accepted: with --chat")
    if prompts.system is not None and not prompts.system.strip():
        raise UserError(f"--system={prompts.system!r}: no text; accepted: a system message")


def check_shots(tasks: Mapping[str, Any], shots: int | None) -> None:
    """Raises UserError if a task forbids examples, or has too few documents for them."""
    for name, task in tasks.items() if shots else ():
        if task.get_config("num_fewshot") == 0:
            raise UserError(f"--shots={shots}: the file of {name} sets num_fewshot to 0; accepted: 0")
        same = task.fewshot_cfg.split == task.config.test_split  # a document is no example of itself
        most = len(list(task.fewshot_docs() or ())) - same
        if shots > most:
            raise UserError(f"--shots={shots}: {name} has {most} examples; accepted: 0 to {most}")
