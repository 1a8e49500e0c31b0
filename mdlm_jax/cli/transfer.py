"""The verb `transfer`: a learning rate tuned at one size, and whether it stays the best at larger ones."""

import pathlib

from mdlm_jax.cli.devices import prepare_devices
from mdlm_jax.cli.inputs import check_at_least
from mdlm_jax.cli.out import check_out_folder, write_out
from mdlm_jax.errors import UserError
from mdlm_jax.interrupts import EXIT_CODE


def add_transfer(verbs) -> None:
    """Adds the verb to the command line."""
    verb = verbs.add_parser("transfer", help="tune the learning rate at one size, and show whether it stays the best")
    verb.add_argument(
        "--config",
        required=True,
        help="the base, of a named size, and a rate to try: a preset by name, or a config file",
    )
    verb.add_argument("--sizes", required=True, help="names of larger sizes, by commas, as in 33k,131k")
    verb.add_argument(
        "--folder", type=pathlib.Path, required=True, help="of the runs, transfer.json, .html and best.py"
    )
    verb.add_argument("--seeds", type=int, default=2, help="seeds of each rate and size (default: 2)")
    verb.add_argument("--workers", type=int, default=0, help="number of runs at once (default: one per device or core)")
    verb.set_defaults(run_verb=_transfer, takes_keys=True)


def _transfer(options) -> int:
    import json

    from mdlm_jax.config import load_config

    check_at_least(options, seeds=2, workers=0)
    check_out_folder(options.folder, "--folder")
    config = load_config(options.config, options.overrides)
    sizes = _sizes(options.sizes, config.model.size)
    prepare_devices()
    from mdlm_jax.report.transfer_page import transfer_page
    from mdlm_jax.sweeps import launchers, transfer
    from mdlm_jax.sweeps.advise import config_file
    from mdlm_jax.tables import show

    launcher = launchers.local(options.workers)
    summary, curves = transfer.run_transfer(config, sizes, options.seeds, options.folder, launcher)
    if summary.left:
        print(f"{options.folder}: stopped with {summary.left} runs left; the same command resumes them")
        return EXIT_CODE
    show(transfer.transfer_table(curves))
    kept, best = transfer.transfer_as_json(curves), curves[0].best
    tuned = transfer.tuned_config(config, curves)
    parametrization = config.model.parametrization
    methods = (
        f"{tuned.steps:,} steps of {tuned.train.batch_size} rows of {tuned.data.sequence_length} tokens at every size, "
        f"{options.seeds} seeds of each rate. A rate that fails from some seed counts by the others.",
        f"The best rate stays if its 95% interval over that of the base is within a factor of {transfer.STAYS:g}.",
    )
    stored = {"parametrization": parametrization, "steps": tuned.steps, "seeds": options.seeds, "curves": kept}
    write_out(options.folder / "transfer.json", json.dumps(stored, indent=1) + "\n", "--folder")
    write_out(options.folder / "transfer.html", transfer_page(kept, parametrization, methods), "--folder")
    print(options.folder / "transfer.html")
    if not best.interior:
        print(
            f"{options.folder}: best.py is not written: the best rate of {curves[0].size} is {best.rate:.3g} "
            f"or beyond, at an end of the rates; --config.optim.lr={best.rate:.3g} puts it in their middle"
        )
        return 1
    about = f"{curves[-1].size} with the learning rate tuned at {curves[0].size}: {best.rate:.3g}, {parametrization}."
    write_out(options.folder / "best.py", config_file(tuned, about), "--folder")
    print(options.folder / "best.py")
    return 1 if summary.failed else 0


def _sizes(text: str, base: str) -> list[str]:
    """The names in --sizes. Raises UserError, before the slow imports, unless each is a size and not the base."""
    from mdlm_jax.configs.sizes import SIZES

    sizes = [name.strip() for name in text.split(",")]
    if not base:
        raise UserError("config.model.size is ''; accepted: a named size, which the larger ones are compared with")
    for name in sizes:
        if name not in SIZES or name == base or sizes.count(name) > 1:
            raise UserError(f"--sizes={text}: {name!r}; accepted: names of sizes larger than {base}, once each")
    return sizes
