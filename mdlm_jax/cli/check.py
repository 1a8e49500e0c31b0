"""The verb `check`."""

import json
import pathlib

from mdlm_jax.cli.devices import prepare_devices
from mdlm_jax.cli.inputs import check_at_least
from mdlm_jax.cli.out import check_out_folder, write_out
from mdlm_jax.errors import UserError

TOY = {"vocab": 3, "length": 2, "draws": 100_000, "seed": 0}  # the options of the exact check and their defaults


def add_check(verbs) -> None:
    """Adds the verb to the command line."""
    verb = verbs.add_parser(
        "check", help="check an objective by exact enumeration, or how activations depend on width and depth"
    )
    verb.add_argument("objective", help="a name, FILE.py:FUNCTION or module:function")
    verb.add_argument("--config", default="base", help="--config.objective.KEY=VALUE overrides a key")
    verb.add_argument("--vocab", type=int, help=f"tokens of the toy distribution; default: {TOY['vocab']}")
    verb.add_argument("--length", type=int, help=f"positions of the toy distribution; default: {TOY['length']}")
    verb.add_argument("--draws", type=int, help=f"noise draws for each sequence; default: {TOY['draws']}")
    verb.add_argument("--seed", type=int, help="seed of the toy distribution and of the noise; default: 0")
    verb.add_argument(
        "--parametrization",
        action="store_true",
        help="instead, measure activations and their updates against width and depth: flat under mup and completep",
    )
    verb.add_argument(
        "--out", type=pathlib.Path, help="with --parametrization: a folder for coordinates.json and .html"
    )
    verb.set_defaults(run_verb=_check, takes_keys=True)


def _check(options) -> int:
    from mdlm_jax.config import load_config

    # before the slow imports, so that a wrong name or key is answered at once
    load_config(options.config, [f"--config.objective.name={options.objective}", *options.overrides])
    if options.parametrization:
        return _check_parametrization(options)
    if options.out is not None:
        raise UserError(f"--out={options.out}: read with --parametrization; accepted: without --out")
    check_at_least(options, vocab=2, length=2, draws=2)
    prepare_devices()
    from mdlm_jax.exact.check_objective import check_objective
    from mdlm_jax.runs.say import doing

    given = {name: getattr(options, name) for name in TOY if getattr(options, name) is not None}
    with doing(f"checking {options.objective}"):
        rows = check_objective(options.objective, options.config, options.overrides, **TOY | given)
    return 0 if all(row.holds for row in rows) else 1


def _check_parametrization(options) -> int:
    for name in TOY:
        if (value := getattr(options, name)) is not None:
            raise UserError(f"--{name}={value}: not read with --parametrization; accepted: --config.KEY=VALUE")
    if options.out is not None:
        check_out_folder(options.out)
    prepare_devices()
    from mdlm_jax.exact.check_parametrization import as_json, check_parametrization, show_rows
    from mdlm_jax.runs.say import doing

    with doing(f"measuring the activations of {options.objective}"):
        rows = check_parametrization(options.objective, options.config, options.overrides)
    show_rows(options.objective, rows)
    if options.out is not None:
        from mdlm_jax.report.coordinates_page import coordinates_page

        write_out(options.out / "coordinates.json", json.dumps(as_json(options.objective, rows), indent=1) + "\n")
        write_out(options.out / "coordinates.html", coordinates_page(options.objective, rows))
        print(options.out / "coordinates.html")
    return 1 if any(row.holds is False for row in rows) else 0
