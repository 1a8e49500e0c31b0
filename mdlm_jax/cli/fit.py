"""The verbs `fit` and `predict`: a kept fit of the loss, and what it predicts."""

import math
import pathlib

from mdlm_jax.cli.devices import prepare_devices
from mdlm_jax.cli.inputs import check_exists
from mdlm_jax.cli.out import check_out
from mdlm_jax.errors import UserError


def add_fit(verbs) -> None:
    """Adds both verbs to the command line."""
    verb = verbs.add_parser("fit", help="fit L(N, D) to stored results, and keep the fits in a file")
    verb.add_argument(
        "results", type=pathlib.Path, help="the results.json that sweep report --store wrote, its folder, or a sweep's"
    )
    verb.add_argument("--out", type=pathlib.Path, required=True, help="the file of the fits, as JSON")
    verb.add_argument("--resamples", type=int, default=1000, help="bootstrap resamples of the runs (default: 1000)")
    verb.add_argument(
        "--forms",
        type=pathlib.Path,
        help="also fit other forms of the law, print how well each predicts budgets that were left out, and write this "
        "as JSON",
    )
    verb.add_argument(
        "--audit",
        type=pathlib.Path,
        help="also refit without the largest budgets and sizes, print the errors of their losses by distance, and "
        "write each as JSON",
    )
    verb.set_defaults(run_verb=_fit)

    verb = verbs.add_parser("predict", help="the loss that a kept fit predicts, with intervals; prints JSON")
    add_kept(verb)
    verb.add_argument("--parameters", type=float, required=True, help="N, without embeddings")
    verb.add_argument("--tokens", type=float, required=True, help="D, of training")
    verb.set_defaults(run_verb=_predict)


def add_kept(verb) -> None:
    """Adds the file of the fits and the objective."""
    verb.add_argument("fits", type=pathlib.Path, help="a file that mdlm-jax fit wrote")
    verb.add_argument("--objective", required=True, help="the objective, by its name in the file")


def read_kept(options, *names: str) -> list:
    """The kept fits that options name. Raises UserError if there is none of a name."""
    check_exists(options.fits, "a file that mdlm-jax fit wrote")
    for name in names:
        _check_name(options, name)
    prepare_devices()
    from mdlm_jax.laws import read_fits

    fits = read_fits(options.fits)
    return [fits[getattr(options, name)] for name in names]


def _check_name(options, option: str) -> None:
    """Raises UserError, before the slow imports, unless the file has fits and one is of this name."""
    import json

    try:
        fits = json.loads(options.fits.read_text(encoding="utf-8"))["fits"]
        names = list(fits.keys())
    except (OSError, ValueError, RecursionError, TypeError, LookupError, AttributeError) as error:
        raise UserError(
            f"{options.fits}: holds no fits ({error!r:.80}); accepted: a file that mdlm-jax fit wrote"
        ) from error
    if (name := getattr(options, option)) not in names:
        raise UserError(f"--{option}={name}: not in {options.fits}; accepted: {', '.join(names)}")


def positive(options, *names: str) -> None:
    """Raises UserError unless these options, where given, are positive numbers."""
    for name in names:
        value = getattr(options, name)
        if value is not None and not 0 < value < math.inf:
            raise UserError(f"--{name}={value}; accepted: a positive number")


def _fit(options) -> int:
    if options.resamples < 100:
        raise UserError(f"--resamples={options.resamples}; accepted: 100 or more, for the ends of 95% intervals")
    check_out(options.out)
    _check_files(options)
    check_exists(options.results, "the results.json of a sweep, its folder, or a folder of runs")
    prepare_devices()
    from mdlm_jax.laws import Refusal, write_fits
    from mdlm_jax.report import analyse, kept_fits
    from mdlm_jax.report.stored import find_stored
    from mdlm_jax.runs.say import doing

    results, problems, _ = find_stored(options.results)
    analysis = analyse(results, problems)
    with doing("fitting", one_process=True):
        found = kept_fits(analysis, options.resamples)
    refused = [f"{name}: no fit: {fit.reason}" for name, fit in found.items() if isinstance(fit, Refusal)]
    kept = {name: fit for name, fit in found.items() if not isinstance(fit, Refusal)}
    if not kept:
        raise UserError(f"{options.results}: {'; '.join([*refused, *analysis.left_out]) or 'no run with a budget'}")
    write_fits(options.out, kept)
    for name, fit in kept.items():
        values = ", ".join(f"{key} {value:.4g}" for key, value in fit.fitted.values._asdict().items())
        print(f"{name}: {values}; {len(fit.fitted.loss)} runs, {len(fit.draws)} draws")
    print("\n".join([*refused, *analysis.left_out, str(options.out)]))
    if options.forms is not None:
        _compare_forms(analysis, options)
    if options.audit is not None:
        _audit(analysis, kept, options)
    return 0


def _check_files(options) -> None:
    """Raises UserError unless each file can be written and is one of its own."""
    taken = {options.out.resolve(): "--out"}
    for option, path in (("--forms", options.forms), ("--audit", options.audit)):
        if path is None:
            continue
        check_out(path, option)
        if other := taken.get(path.resolve()):
            raise UserError(f"{option}={path}: is the file of {other}; accepted: another file")
        taken[path.resolve()] = option


def _audit(analysis, kept: dict, options) -> None:
    from mdlm_jax.report import audits_of
    from mdlm_jax.report.text.audits import audit_table, audits_as_json
    from mdlm_jax.runs.say import doing
    from mdlm_jax.tables import show

    with doing("fitting without the largest budgets and sizes", one_process=True):
        found = audits_of(analysis, kept)
    show(audit_table(found))
    _write_with_command(options, "--audit", options.audit, {"audits": audits_as_json(found)})


def _write_with_command(options, option: str, path: pathlib.Path, found: dict) -> None:
    """Writes what was found as JSON with the command that found it, and prints the path."""
    import json
    import shlex

    from mdlm_jax.cli.out import write_out

    words = ["mdlm-jax", "fit", options.results, "--out", options.out, option, path]
    stored = {"command": shlex.join(map(str, words)), **found}
    write_out(path, json.dumps(stored, indent=1) + "\n", option)
    print(path)


def _compare_forms(analysis, options) -> None:
    from mdlm_jax.report import forms_of
    from mdlm_jax.report.text.forms import form_table, forms_as_json
    from mdlm_jax.runs.say import doing
    from mdlm_jax.tables import show

    with doing("fitting other forms", one_process=True):
        found = forms_of(analysis)
    show(form_table(found))
    _write_with_command(options, "--forms", options.forms, {"forms": forms_as_json(found)})


def _predict(options) -> int:
    positive(options, "parameters", "tokens")
    (kept,) = read_kept(options, "objective")
    import json

    import numpy as np

    from mdlm_jax.laws import Refusal, Runs, predict_loss

    asked = Runs(np.array([options.parameters]), np.array([options.tokens]))
    found = predict_loss(*kept, asked)
    if isinstance(found, Refusal):
        raise UserError(f"{options.objective}: {found.reason}")
    distance = float(found.distance[0])
    told = {
        "objective": options.objective,
        "parameters": options.parameters,
        "tokens": options.tokens,
        "loss": float(found.loss[0]),
        "interval_of_mean": [float(found.low[0]), float(found.high[0])],
        "interval_of_new_run": [float(found.run_low[0]), float(found.run_high[0])],
        "decades_outside": distance,
        "extrapolated": distance > 0,
    }
    print(json.dumps(told, indent=1))
    return 0
