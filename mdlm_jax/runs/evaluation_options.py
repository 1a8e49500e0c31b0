"""Which options of `evaluate` fit together. It imports no JAX, so a wrong command ends at once."""

from typing import Any

from mdlm_jax.errors import UserError

WITH = {name: "pairs" for name in ("guidance", "prompt_field", "answer_field")}  # an option -> what it needs
WITH |= {"protocol": "path", "detokenize": "protocol"}
CORPUS = ("data", "source", "validation_path", "sequences", "clip")
TIGHT = ("likelihood", "orders")
WITHOUT = {
    "path": ("pairs", *CORPUS),
    "pairs": (*CORPUS, "field", "length"),
    "clip": (*TIGHT, *CORPUS[:3], "field", "length", "out"),
}  # an option -> those that it leaves without effect


def refuse_mixed(options: dict[str, Any]) -> None:
    """Refuses options that another one leaves without effect.

    Args:
        options: Values by name; None, False or no entry where an option is not given.

    Raises:
        UserError: Two of the options do not go together.
    """
    given = {name: value for name, value in options.items() if value is not None and value is not False}
    for name, needed in WITH.items():
        if name in given and needed not in given:
            raise UserError(f"{_flag(name)}={given[name]}; accepted: with {_flag(needed)}")
    for chosen, others in WITHOUT.items():
        for other in others:
            if chosen in given and other in given:
                raise UserError(f"{_flag(chosen)} with {_flag(other)}; accepted: one of the two")


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
