"""`mdlm-jax check`: the promises of an objective of the package, or of one in a file, as a table."""

from collections.abc import Callable

from rich.console import Console
from rich.table import Table

from mdlm_jax.build.described import objective_factory
from mdlm_jax.build.objective import objective_of
from mdlm_jax.config import load_config
from mdlm_jax.configs.relations import refuse_contradictions
from mdlm_jax.errors import UserError
from mdlm_jax.exact.promises import Promise, check_promises
from mdlm_jax.objectives import Objective


def check_objective(
    name: str, config: str, overrides: list[str], *, vocab: int, length: int, draws: int, seed: int
) -> list[Promise]:
    """Prints the table. Raises UserError for an objective that there is not, or a toy distribution too small or too
    large."""
    for key, value, least in (("--vocab", vocab, 2), ("--length", length, 2), ("--draws", draws, 2)):
        if value < least:
            raise UserError(f"{key}={value}; accepted: {least} or more")
    if not 0 <= seed < 2**32:
        raise UserError(f"--seed={seed}; accepted: 0 to {2**32 - 1}")
    if vocab**length > 1000:
        raise UserError(f"--vocab={vocab} --length={length}: {vocab**length:,} sequences; accepted: at most 1,000")
    rows = check_promises(maker(name, config, overrides), vocab, length, draws, seed)
    table = Table(title=f"{name}, V = {vocab}, L = {length}")
    for heading in ("promise", "value", "expected", "standard error", "verdict"):
        table.add_column(heading, justify="left" if heading == "promise" else "right")
    for row in rows:
        error = f"{row.error:.4f}" if row.error else "-"
        verdict = "[green]holds[/]" if row.holds else "[red]FAILS[/]"
        table.add_row(row.promise, f"{row.value:.4f}", row.expected, error, verdict)
    Console().print(table)
    return rows


def maker(name: str, config: str, overrides: list[str]) -> Callable[[int, int], Objective]:
    """(mask id, row length) -> the objective that `name` and the config with its overrides describe.

    Raises:
        UserError: There is no such objective.
    """
    objective_factory(name)

    def make(mask_id: int, length: int) -> Objective:
        given = [f"--config.objective.name={name}", f"--config.data.sequence_length={length}", *overrides]
        loaded = load_config(config, given)
        refuse_contradictions(loaded)
        return objective_of(loaded, mask_id)

    return make
