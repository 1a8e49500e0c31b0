"""Fits kept in one JSON file: the runs, the optimum and the bootstrap draws, for later questions without a new fit."""

import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from mdlm_jax.errors import UserError
from mdlm_jax.files import write_whole
from mdlm_jax.laws.data_constrained import MUENNIGHOFF, QUOKKA, RepeatedRuns
from mdlm_jax.laws.estimators import ESTIMATORS
from mdlm_jax.laws.parametric import CHINCHILLA, Runs
from mdlm_jax.laws.refusal import Refusal
from mdlm_jax.laws.resampling import row_resamples
from mdlm_jax.laws.surface import Fit, Law, named
from mdlm_jax.laws.uncertainty import refitted

VERSION = 1
LAWS: dict[str, tuple[Law, type]] = {  # laws that a file can name, with their inputs
    "chinchilla": (CHINCHILLA, Runs),
    "muennighoff": (MUENNIGHOFF, RepeatedRuns),
    "quokka": (QUOKKA, RepeatedRuns),
}
MAX_LOST = 0.05  # largest share of resamples that may determine no fit


class KeptFit(NamedTuple):
    """A fit with the coordinates of its bootstrap draws."""

    fitted: Fit
    draws: Float[np.ndarray, "draws parameters"]


def keep(fitted: Fit, resamples: int, seed: int) -> KeptFit | Refusal:
    """The fit with draws from a row bootstrap, refused if more than 5% of the resamples determine no fit."""
    draws = refitted(fitted, row_resamples(len(fitted.loss), resamples, seed))
    whole = np.isfinite(draws).all(axis=1)
    if 1 - whole.mean() > MAX_LOST:
        return Refusal(f"{1 - whole.mean():.0%} of the resamples determine no fit")
    return KeptFit(fitted, draws[whole])


def write_fits(path: str | os.PathLike, fits: Mapping[str, KeptFit]) -> None:
    """Writes fits by name into one JSON file, whole or not at all.

    Raises:
        UserError: The file cannot be written, or a fit has a law that files do not know.
    """
    path = pathlib.Path(path)
    text = json.dumps({"version": VERSION, "fits": {name: _fields(name, kept) for name, kept in fits.items()}})
    try:
        write_whole(path, text + "\n")
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); accepted: a file to write") from error


def _fields(name: str, kept: KeptFit) -> dict[str, Any]:
    fitted = kept.fitted
    laws = [known for known, (law, _) in LAWS.items() if law == fitted.law]
    if not laws:
        raise UserError(f"{name}: its law cannot be kept; accepted: {', '.join(LAWS)}")
    return {
        "law": laws[0],
        "estimator": fitted.estimator,
        "inputs": {field: np.asarray(column).tolist() for field, column in fitted.inputs._asdict().items()},
        "loss": fitted.loss.tolist(),
        "free": fitted.free.tolist(),
        "coordinates": fitted.coordinates.tolist(),
        "scale": fitted.scale,
        "objective": fitted.objective,
        "draws": kept.draws.tolist(),
    }


def read_fits(path: str | os.PathLike) -> dict[str, KeptFit]:
    """The fits of a file by name, equal to those that were written to the last bit.

    Raises:
        UserError: The file cannot be read, is damaged or of another version; the message names the file and the key.
    """
    try:
        found = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); accepted: a file that mdlm-jax fit wrote") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not whole JSON ({error})") from error
    if not isinstance(found, dict) or not isinstance(found.get("fits"), dict) or not found["fits"]:
        raise UserError(f"{path}: holds no fits; accepted: a file that mdlm-jax fit wrote")
    if found.get("version") != VERSION:
        raise UserError(f"{path}: version is {found.get('version')!r:.40}, this program reads {VERSION}")
    return {name: _kept(fields, f"{path}, fit {name}") for name, fields in found["fits"].items()}


def _kept(fields: Any, where: str) -> KeptFit:
    if not isinstance(fields, dict):
        raise UserError(f"{where}: expected an object with the keys of a fit")
    for key, choices in (("law", LAWS), ("estimator", ESTIMATORS)):
        if not isinstance(fields.get(key), str) or fields[key] not in choices:
            raise UserError(f"{where}: key '{key}' is {fields.get(key)!r:.40}; accepted: {', '.join(choices)}")
    law, kind = LAWS[fields["law"]]
    loss = _array(fields, "loss", (None,), where, positive=True)
    columns = fields.get("inputs") if isinstance(fields.get("inputs"), dict) else {}
    inputs = kind(*(_array(columns, name, loss.shape, where, positive=True) for name in kind._fields))
    coordinates = _array(fields, "coordinates", (len(law.logarithmic),), where)
    free = _array(fields, "free", coordinates.shape, where).astype(bool)
    draws = _array(fields, "draws", (None, len(coordinates)), where)
    scale, objective = (float(_array(fields, key, (), where)) for key in ("scale", "objective"))
    if len(loss) <= free.sum() or not len(draws):
        raise UserError(f"{where}: {len(loss)} runs, {len(draws)} draws; expected more runs than parameters, and draws")
    fitted = Fit(law, fields["estimator"], inputs, loss, free, coordinates, named(law, coordinates), scale, objective)
    return KeptFit(fitted, draws)


def _array(fields: dict, key: str, shape: tuple[int | None, ...], where: str, positive: bool = False) -> np.ndarray:
    """Numbers of this shape, None for any length."""
    try:
        values = np.array(fields.get(key), float)
    except (TypeError, ValueError, OverflowError):
        values = np.array(np.nan)
    lengths = zip(shape, values.shape, strict=False)
    fits = values.ndim == len(shape) and all(want in (None, have) for want, have in lengths)
    if not fits or not np.isfinite(values).all() or (positive and not np.all(values > 0)):
        wanted = " x ".join("n" if length is None else str(length) for length in shape) or "one"
        raise UserError(f"{where}: key '{key}' is damaged; expected {wanted} {'positive ' * positive}numbers")
    return values
