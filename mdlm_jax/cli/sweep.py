"""The verbs under `mdlm-jax sweep`."""

import argparse
import pathlib

from mdlm_jax.cli.devices import prepare_devices
from mdlm_jax.cli.inputs import check_at_least, check_exists, check_model
from mdlm_jax.cli.out import check_out, check_out_folder
from mdlm_jax.cli.work import add_work
from mdlm_jax.errors import UserError
from mdlm_jax.interrupts import EXIT_CODE
from mdlm_jax.sweeps.places import config_files, default_folder, experiment_file

STORED = ", or stored results: the results.json that --store wrote, or its folder"


def add_sweep(verbs) -> None:
    """Adds `sweep` and the verbs under it to the command line."""
    sweep_verbs = verbs.add_parser("sweep", help="plan, run, watch and report an experiment").add_subparsers(
        required=True
    )
    for name, function, text in (
        ("plan", _plan, "every run with its size, tokens and FLOPs, before anything runs"),
        ("run", _run, "train the missing runs, then report"),
        ("retry", _retry, "train failed runs again, from their last checkpoints"),
        ("status", _status, "the state of every run: done, running, failed or left"),
        ("cancel", _cancel, "stop running runs, which save their state, and remove waiting ones"),
        ("report", _report, "the report of the finished runs"),
        (
            "sample",
            _sample,
            "samples of the best run of each objective and budget: speed, and likelihood under a judge",
        ),
        ("evaluate", _evaluate, "a tighter likelihood of every run, for the report"),
        ("tune", _tune, "learning rates around those of the experiment, at one budget of each objective"),
    ):
        verb = sweep_verbs.add_parser(name, help=text)
        verb.add_argument(
            "experiment", help="an experiment: a file, or a name such as quickstart" + STORED * (name == "report")
        )
        verb.add_argument("--folder", type=pathlib.Path, help="folder of the runs (default: runs/NAME)")
        if function in (_run, _retry, _tune):
            _add_launchers(verb)
        if function is _plan:
            verb.add_argument(
                "--hardware",
                metavar="NAME:COUNT",
                help="hardware of each run, such as h200:8; the plan then lists hours, price and memory",
            )
            verb.add_argument(
                "--mfu", type=float, help="share of the hardware's peak that a run reaches (default: 0.5)"
            )
            verb.add_argument("--price", type=float, help="dollars per device hour, instead of the listed price")
        if function is _evaluate:
            verb.add_argument("--likelihood", required=True, help="orders, left_to_right or confidence, as in evaluate")
            verb.add_argument("--orders", type=int, help="with orders: number of orders of each sequence (default: 64)")
        if function is _sample:
            verb.add_argument(
                "--judge",
                type=pathlib.Path,
                help="a run of `ar` or a public model (default: the sweep's best)",
            )
        if function is _report:
            verb.add_argument("--out", type=pathlib.Path, help="folder of the report (default: the folder of the runs)")
            verb.add_argument("--store", type=pathlib.Path, metavar="FILE", help="also write all results into one file")
        if function is _status:
            verb.add_argument("--watch", action="store_true", help="update until all runs have ended")
        verb.set_defaults(run_verb=function)
    add_work(sweep_verbs)


def _add_launchers(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--population",
        type=int,
        default=1,
        help="number of runs in one program; they may differ in seed and learning rate",
    )
    where = verb.add_mutually_exclusive_group()
    where.add_argument(
        "--workers", type=int, default=0, help="number of runs at once (default: one per device or core)"
    )
    where.add_argument("--slurm", nargs="*", metavar="KEY=VALUE", help="submit to SLURM, with these options of sbatch")
    where.add_argument("--submit", metavar="LINE", help="a shell line that submits {command} to any scheduler")
    verb.add_argument(
        "--allocations",
        type=int,
        default=0,
        help="with --slurm: number of allocations that share the runs (default: one job per run)",
    )


def _launcher(options):
    from mdlm_jax.sweeps import launchers
    from mdlm_jax.sweeps.slurm import parse_resources

    if options.slurm is not None:
        launcher = launchers.by_slurm(parse_resources(options.slurm), allocations=options.allocations)
    elif options.submit is not None:
        launcher = launchers.by_line(options.submit)
    else:
        launcher = launchers.local(options.workers)
    return launchers.in_populations(launcher, options.population)


def _folder(options) -> pathlib.Path:
    return options.folder or default_folder(options.experiment)


def _experiment(options):
    """The experiment. It is checked before the slow imports."""
    from mdlm_jax.sweeps.experiment import load_experiment

    return load_experiment(options.experiment)


def _check_launcher(options) -> None:
    """Checks the options of `_add_launchers` before the slow imports."""
    from mdlm_jax.sweeps.slurm import check_allocations, parse_resources
    from mdlm_jax.sweeps.submit_line import check_line

    check_at_least(options, population=1, workers=0, allocations=0)
    if options.allocations and options.slurm is None:
        raise UserError(f"--allocations={options.allocations}; accepted: with --slurm")
    if options.slurm is not None:
        check_allocations(options.allocations, parse_resources(options.slurm))
    if options.submit is not None:
        check_line(options.submit)
    if options.folder is not None:
        check_out_folder(options.folder, "--folder")


def _plan(options) -> int:
    experiment_file(options.experiment)
    if options.price is not None and options.hardware is None:
        raise UserError(f"--price={options.price}; accepted: with --hardware=NAME:COUNT")
    if options.mfu is not None and options.hardware is None:
        raise UserError(f"--mfu={options.mfu}; accepted: with --hardware=NAME:COUNT")
    from mdlm_jax.costs.prices import check_mfu, parse_hardware

    if options.mfu is not None:
        check_mfu(options.mfu)
    hardware = parse_hardware(options.hardware, options.price) if options.hardware is not None else None
    experiment = _experiment(options)
    from mdlm_jax.runs.say import doing
    from mdlm_jax.sweeps.branches import cost_of, plan_experiment
    from mdlm_jax.sweeps.plan import plan_table
    from mdlm_jax.tables import show

    with doing("planning the runs", one_process=True):
        planned = plan_experiment(experiment)
    show(plan_table(planned, hardware, 0.5 if options.mfu is None else options.mfu))
    if (cost := cost_of(planned)) is not None:
        print(cost.sentence)
    return 0


def _run(options) -> int:
    return _launch(options, again=False)


def _retry(options) -> int:
    return _launch(options, again=True)


def _launch(options, again: bool) -> int:
    _check_launcher(options)
    experiment, folder = _experiment(options), _folder(options)
    prepare_devices()  # the report at the end compiles its fits
    from mdlm_jax.sweeps import sweep

    summary = sweep.run(experiment, folder, _launcher(options), sweep.FAILED if again else sweep.MISSING)
    if summary.left:
        counts = f"{summary.done} runs done, {summary.failed} failed, {summary.left} left"
        print(f"{folder}: stopped with {counts}; the same command resumes them")
        return EXIT_CODE
    report = f"; report: {sweep.report(experiment, folder)[0]}" if summary.done else ""
    hint = "; `sweep retry` trains those again" if summary.failed else ""
    print(f"{summary.done} runs done, {summary.failed} failed{hint}{report}")
    return 1 if summary.failed else 0


def _status(options) -> int:
    from mdlm_jax.sweeps import states
    from mdlm_jax.sweeps.found import found_runs
    from mdlm_jax.tables import show

    jobs, found, problems = found_runs(_folder(options))
    if options.watch:
        from rich.console import Console

        over = lambda found, answered: not any(run.state in states.MOVING for run in found.values())  # noqa: E731
        states.watch(jobs, over, Console())
        found = found_runs(_folder(options)).states
    show(states.status_table(jobs, found))
    print("\n".join([*problems, states.counts(jobs, found)]))
    return 0


def _cancel(options) -> int:
    config_files(_folder(options))
    from mdlm_jax.sweeps import sweep

    print(f"{sweep.cancel(_folder(options))} runs cancelled; `sweep run` resumes them")
    return 0


def _report(options) -> int:
    if options.out is not None:
        check_out_folder(options.out)
    if options.experiment.endswith(".json") or pathlib.Path(options.experiment).is_dir():
        if options.store is not None or options.folder is not None:
            raise UserError(f"{options.experiment}: stored results; accepted without --store and --folder")
        check_exists(pathlib.Path(options.experiment), "a file that --store wrote, or its folder")
        prepare_devices()
        from mdlm_jax.sweeps import sweep

        path, problems = sweep.report_stored(pathlib.Path(options.experiment), options.out)
    else:
        experiment, folder = _experiment(options), _folder(options)
        check_exists(folder, "the folder of a sweep that was started")
        if options.store is not None:
            check_out(options.store, "--store")
        prepare_devices()
        from mdlm_jax.sweeps import sweep

        path, problems = sweep.report(experiment, folder, options.out, options.store)
    print("\n".join([*problems, str(path)]))
    return 0


def _sample(options) -> int:
    experiment, folder = _experiment(options), _folder(options)
    check_exists(folder, "the folder of a sweep with results")
    if options.judge is not None:
        check_model(options.judge)
    from mdlm_jax.sweeps import samples, sweep

    results, _ = sweep.collect(experiment, folder)
    if not (best := samples.best_runs(results)):
        raise UserError(f"{folder}: no run is done; accepted: the folder of a sweep with results")
    judge = options.judge or folder / samples.default_judge(results)
    for run in best:
        print(samples.measure_samples(folder / run.run_id, judge), flush=True)
    return 0


def _evaluate(options) -> int:
    from mdlm_jax.runs.evaluation_options import LIKELIHOODS, check_likelihood

    check_at_least(options, orders=2)
    if options.likelihood not in LIKELIHOODS:
        raise UserError(f"--likelihood={options.likelihood}; accepted: {', '.join(LIKELIHOODS)}")
    check_likelihood(options.likelihood, None, options.orders)
    experiment, folder = _experiment(options), _folder(options)
    check_exists(folder, "the folder of a sweep with results")
    prepare_devices()
    from mdlm_jax.sweeps import sweep
    from mdlm_jax.sweeps.tight import evaluate_runs

    results, _ = sweep.collect(experiment, folder)
    done = [result for result in results if result.status == "done"]
    for line in evaluate_runs(done, folder, options.likelihood, options.orders):
        print(line, flush=True)
    return 0


def _tune(options) -> int:
    _check_launcher(options)
    experiment = _experiment(options)
    from mdlm_jax.sweeps import tune
    from mdlm_jax.tables import show

    folder = options.folder or pathlib.Path(f"{default_folder(options.experiment)}-tune")
    summary, found = tune.tune(experiment, folder, _launcher(options))
    show(tune.tuned_table(found))
    return 1 if summary.failed else 0
