"""Forms of L(N, D) side by side: how well each fits, and how well it predicts budgets that were left out."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from rich.table import Table

from mdlm_jax.laws import FormFit, HeldOut, Refusal, loss_at
from mdlm_jax.style import number

Forms = Mapping[str, Mapping[str, FormFit | Refusal] | Refusal]  # by objective and form


def fit_error(found: FormFit) -> float:
    """Root mean square of ln loss - ln predicted loss, over the runs that were fitted."""
    residuals = np.log(found.fitted.loss / loss_at(found.fitted, found.fitted.inputs))
    return float(np.sqrt(np.mean(residuals**2)))


def form_table(forms: Forms) -> Table:
    """One row for each objective and form; errors in percent of the loss."""
    table = Table("objective", "form", "parameters", "error of the fit, %", "error of the budget left out, %", box=None)
    for objective, found in forms.items():
        for name, form in found.items() if isinstance(found, Mapping) else [("", found)]:
            if isinstance(form, Refusal):
                table.add_row(objective, name, "", "", f"no fit: {form.reason}")
                continue
            table.add_row(
                objective, name, str(form.fitted.free.sum()), f"{100 * fit_error(form):.2f}", _left_out(form.held_out)
            )
    return table


def _left_out(held: HeldOut | Refusal) -> str:
    if isinstance(held, Refusal):
        return f"none: {held.reason}"
    errors = zip(held.budgets.tolist(), held.error.tolist(), strict=True)
    return ", ".join(f"{number(budget)}: {100 * error:.2f}" for budget, error in errors)


def forms_as_json(forms: Forms) -> dict[str, Any]:
    """The table with the parameters of each fit; a refusal is its reason."""
    return {
        objective: found.reason
        if isinstance(found, Refusal)
        else {name: form.reason if isinstance(form, Refusal) else _as_json(form) for name, form in found.items()}
        for objective, found in forms.items()
    }


def _as_json(form: FormFit) -> dict[str, Any]:
    held = form.held_out
    return {
        "values": {name: float(value) for name, value in form.fitted.values._asdict().items()},
        "runs": len(form.fitted.loss),
        "error": fit_error(form),
        "left_out": held.reason
        if isinstance(held, Refusal)
        else {"budgets": held.budgets.tolist(), "bias": held.bias.tolist(), "error": held.error.tolist()},
    }
