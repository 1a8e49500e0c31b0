"""Tighter likelihoods of the runs of a sweep, stored in their results, for the report to compare."""

import pathlib
from collections.abc import Iterator, Sequence

from mdlm_jax.errors import UserError
from mdlm_jax.runs.evaluate import evaluate_run
from mdlm_jax.runs.likelihoods import ORDERS, chosen_likelihood
from mdlm_jax.runs.restore import open_run
from mdlm_jax.runs.result import FILE_NAME, Result, read_result, write_result


def evaluate_runs(
    results: Sequence[Result], folder: pathlib.Path, name: str, orders: int | None = None
) -> Iterator[str]:
    """Evaluates every run that has the likelihood, and adds it to its result.

    A run that has it already, from as many orders, is passed over; another number of orders replaces it.

    The sequences are those of the run's validation loss, so that the likelihoods of all objectives are of one text.

    Args:
        results: Of runs that are done.
        folder: The folder of the sweep.
        name: A key of LIKELIHOODS.
        orders: Of the likelihood `orders`: random orders of each sequence; None for 64.

    Yields:
        One line for each run, and for each objective that has no such likelihood.

    Raises:
        UserError: No run has the likelihood.
    """
    asked = float((ORDERS if orders is None else orders) if name == "orders" else 1)
    refused: dict[str, str] = {}
    accepted: set[str] = set()  # objectives: all runs of one have the likelihood or none has
    evaluated = False
    for listed in results:
        if listed.objective in refused:
            continue
        place = folder / listed.run_id
        result = read_result(place / FILE_NAME)  # the listed one has the keys that vary in its objective
        kept = result.likelihoods.get(name)
        if kept is None or kept["draws"] != asked:
            try:
                if listed.objective not in accepted:
                    chosen_likelihood(open_run(place), name, None, orders)
                    accepted.add(listed.objective)
            except UserError as error:
                refused[listed.objective] = f"{listed.objective} is left out: {error}"
                yield refused[listed.objective]
                continue
            found = evaluate_run(place, draws=None, likelihood=name, orders=orders, sequences=None)
            kept = {key: float(found[key]) for key in ("nats_per_token", "standard_error", "monte_carlo_error")}
            kept |= {"draws": asked}
            write_result(place, result._replace(likelihoods=result.likelihoods | {name: kept}))
        evaluated = True
        yield f"{place}: {kept['nats_per_token']:.4f} +- {kept['standard_error']:.4f} nats per token ({name})"
    if not evaluated:
        raise UserError(f"{folder}: {'; '.join(refused.values()) or 'no run is done'}")
