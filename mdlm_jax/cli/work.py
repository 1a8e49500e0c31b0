"""The verb `sweep work`, which launchers run: one attempt at a run."""

import pathlib

from mdlm_jax.errors import UserError


def add_work(sweep_verbs) -> None:
    """Adds the verb to the verbs of `sweep`."""
    verb = sweep_verbs.add_parser("work", help="start one attempt at one run, or at several runs in one program")
    verb.add_argument(
        "run", type=pathlib.Path, nargs="+", help="the run's folder; - for one run after another, from standard input"
    )
    verb.add_argument("--forgiven", type=int, nargs="+", help="for each run: earlier attempts to ignore")
    verb.add_argument("--job", default="", help="a name shared by the processes that train this run together")
    verb.add_argument("--restart", type=int, default=0, help="how often the scheduler has restarted that job")
    verb.add_argument(
        "--command", default="", help="command to run instead of mdlm-jax train --run; the folder is appended"
    )
    verb.set_defaults(run_verb=_work)


def _work(options) -> int:
    import shlex
    import shutil

    from mdlm_jax.runs.attempts import this_process
    from mdlm_jax.sweeps import work

    forgiven = options.forgiven or [0] * len(options.run)
    if len(forgiven) != len(options.run) or min(forgiven) < 0:
        raise UserError(f"--forgiven {' '.join(map(str, forgiven))}; accepted: a number for each run, 0 or more")
    if options.restart < 0:
        raise UserError(f"--restart={options.restart}; accepted: 0 or more")
    if nameless := [run for run in options.run if not run.name]:
        raise UserError(f"{str(nameless[0])!r}: has no name; accepted: the folder of one run, by its name")
    try:
        command = shlex.split(options.command) or work.TRAIN
    except ValueError as error:
        raise UserError(f"--command={options.command}: {error}; accepted: words as in a shell") from error
    if shutil.which(command[0]) is None:
        raise UserError(f"--command={options.command}: {command[0]} is no command here; accepted: a program")
    owner = this_process(options.job, options.restart)
    if options.run == [pathlib.Path(work.EACH)]:
        return _work_on_each(owner, command)
    runs = dict(zip(options.run, forgiven, strict=True))
    return work.EXIT_CODES[work.work(runs, owner, work.in_own_process(command))]


def _work_on_each(owner, command) -> int:
    import contextlib

    from mdlm_jax.sweeps import tasks, work

    kept = (
        work.in_kept_process() if tuple(command) == work.TRAIN else contextlib.nullcontext(work.in_own_process(command))
    )
    with kept as start:

        def do(task: dict) -> int:
            runs = {pathlib.Path(folder): number for folder, number in task["runs"].items()}
            return work.EXIT_CODES[work.work(runs, owner, start)]

        tasks.serve(do)
    return 0
