"""The verb `train`."""

import pathlib
import sys
from collections.abc import Sequence

from mdlm_jax.cli.devices import check_processes, join_processes, prepare_devices
from mdlm_jax.cli.inputs import check_exists
from mdlm_jax.cli.trainer import train_each
from mdlm_jax.errors import UserError


def add_train(verbs) -> None:
    """Adds the verb to the command line."""
    verb = verbs.add_parser("train", help="train one model; resumes automatically after an interruption")
    verb.add_argument(
        "--run",
        type=pathlib.Path,
        required=True,
        nargs="+",
        help="the run's folder, or several to resume; - for one after another, from standard input",
    )
    verb.add_argument("--config", help="a preset by name, or a config file; --config.KEY=VALUE overrides a key")
    verb.add_argument(
        "--from",
        dest="donor",
        type=pathlib.Path,
        help="a public model to fine-tune; with --recipe an autoregressive model or run that becomes a diffusion model",
    )
    verb.add_argument("--branch", help="RUN@STEP: continue the whole state of a checkpoint in a new folder")
    verb.add_argument(
        "--extend",
        choices=("hold", "replan"),
        help="train a finished run longer, to --config.steps or budget; the "
        "learning rate holds its last value, or follows the schedule of the new length",
    )
    verb.add_argument("--fresh", action="store_true", help="set the folder's contents aside and train from step 0")
    verb.add_argument("--recipe", help="with --from: diffullama, dream, sdar or fastdllm_v2")
    verb.add_argument("--coordinator", default="", help="host:port of process 0, to train in several processes")
    verb.add_argument("--processes", type=int, default=0, help="number of processes")
    verb.add_argument("--process", type=int, default=0, help="number of this process, from 0")
    verb.set_defaults(run_verb=_train, takes_keys=True)


def _train(options) -> int:
    from mdlm_jax.config import from_json
    from mdlm_jax.configs.relations import refuse_contradictions
    from mdlm_jax.runs.same_run import check_folder

    sources = [name for name in ("config", "branch", "donor") if getattr(options, name)]
    if options.run == [pathlib.Path("-")]:
        if sources or options.extend or options.fresh or options.overrides:
            raise UserError("--run=-: the runs resume as they were started; accepted: no other options")
        return train_each()
    if len(options.run) > 1 and (sources or options.extend):
        raise UserError("several of --run resume as they were started; accepted: one with --config, --branch or --from")
    if len(sources) > 1 or (options.recipe and not options.donor):
        raise UserError(
            "accepted: one of --config=FILE, --branch=RUN@STEP, --from=MODEL, --from=RUN with --recipe=NAME"
        )
    # checks that need no jax come before its slow import
    check_processes(options.coordinator, options.processes, options.process)
    if options.donor:
        check_exists(options.donor, "the folder of a public model, or with --recipe that of a run")
    if options.extend:
        from_json(options.run[0] / "config.json")
    configs = _configs(options)
    for config, folder in zip(configs, options.run, strict=True):
        refuse_contradictions(config)
        if not options.extend:
            check_folder(config, folder)
    prepare_devices()
    join_processes(options.coordinator, options.processes, options.process)
    from mdlm_jax.runs.loop import train, train_all

    if options.extend:
        results = [train(configs[0], options.run[0], fresh=options.fresh, extension=options.extend)]
    else:
        results = train_all(configs, options.run, fresh=options.fresh)
    return _print_results(options.run, results)


def resume(folders: Sequence[pathlib.Path], programs: dict) -> tuple[int, bool]:
    """Trains the runs in folders with the config that each has.

    Args:
        folders: The runs.
        programs: The programs of the runs so far, as in `train_all`.

    Returns:
        (exit code, whether all runs have ended: a signal stops runs before their end).
    """
    from mdlm_jax.config import override
    from mdlm_jax.runs.execution import config_of_run
    from mdlm_jax.runs.loop import train_all

    configs = [override(config_of_run(folder), []) for folder in folders]
    results = train_all(configs, folders, programs=programs)
    return _print_results(folders, results), None not in results


def _print_results(folders: Sequence[pathlib.Path], results: Sequence) -> int:
    """Prints the results of runs; the exit code."""
    for folder, result in zip(folders, results, strict=True):
        if result is not None:
            _print_result(folder, result)
    return int(any(result is not None and result.status == "failed" for result in results))


def _configs(options) -> list:
    from mdlm_jax.config import load_config, override
    from mdlm_jax.runs.execution import config_of_run
    from mdlm_jax.runs.recipes import branch_config, model_config, recipe_config

    if options.config:
        return [load_config(options.config, options.overrides)]
    if options.donor and options.recipe:
        return [recipe_config(options.donor, options.recipe, options.overrides)]
    if options.donor:
        return [model_config(options.donor, options.overrides)]
    if options.branch:
        return [branch_config(options.branch, options.overrides)]
    # resume with the configs of the runs; overrides may change execution keys
    return [override(config_of_run(folder), options.overrides) for folder in options.run]


def _print_result(folder: pathlib.Path, result) -> None:
    if result.status == "failed":
        print(f"mdlm-jax: {folder}: {result.cause}", file=sys.stderr)
        return
    bits = "" if result.bits_per_byte is None else f", {result.bits_per_byte:.4f} bits per byte"
    print(
        f"{folder}: {result.loss:.4f} +- {result.loss_standard_error:.4f} nats per token ({result.bound}){bits}, "
        f"{result.wall_seconds:.0f} s"
    )
