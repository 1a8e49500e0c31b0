"""The verbs of the command line and its exit codes: 0 done, 1 failed, 2 wrong input."""

import argparse
import os
import pathlib
import sys

from mdlm_jax.cli.bench import add_bench
from mdlm_jax.cli.convert import add_convert
from mdlm_jax.cli.data import add_data
from mdlm_jax.cli.devices import join_processes, prepare_devices
from mdlm_jax.cli.sample import add_sample
from mdlm_jax.cli.sweep import add_sweep
from mdlm_jax.errors import UserError
from mdlm_jax.files import write_whole
from mdlm_jax.interrupts import end_on_interrupt

INTERRUPTED = 130  # what shells report of a process that Ctrl-C ended


def command() -> None:
    """`mdlm-jax`, a process that ends when all is said: threads of a save that failed would hold it for minutes."""
    end_on_interrupt()
    try:
        main()
    except SystemExit as ended:
        if ended.code in (2, INTERRUPTED):
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(ended.code)
        raise


def main(arguments: list[str] | None = None) -> None:
    """The command with these arguments; raises SystemExit."""
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    if rest and options.run_verb not in (_train, _check):
        parser.error(f"{rest[0]}: not understood; see mdlm-jax {options.verb} --help")
    options.overrides = rest
    try:
        sys.exit(options.run_verb(options))
    except UserError as error:
        print(f"mdlm-jax: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("mdlm-jax: interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mdlm-jax", description=sys.modules["mdlm_jax"].__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    verb = verbs.add_parser("train", help="train one model; goes on by itself where it was interrupted")
    verb.add_argument(
        "--run", type=pathlib.Path, required=True, nargs="+", help="the run's folder, or several to go on"
    )
    verb.add_argument("--config", help="a file in configs/; not needed to go on. --config.KEY=VALUE overrides a key")
    verb.add_argument("--from", dest="donor", type=pathlib.Path, help="a run of `ar` that goes on as one in blocks")
    verb.add_argument("--branch", help="RUN@STEP: continue the whole state of a checkpoint in a new folder")
    verb.add_argument(
        "--extend",
        choices=("hold", "replan"),
        help="train longer, to --config.steps or budget; the "
        "learning rate holds its last value, or follows the schedule of the new length",
    )
    verb.add_argument("--fresh", action="store_true", help="set aside what the folder holds and train from step 0")
    verb.add_argument("--recipe", help="how it does: sdar or fastdllm_v2. --config.KEY=VALUE overrides a key")
    verb.add_argument("--coordinator", default="", help="host:port of process 0, to train in several processes")
    verb.add_argument("--processes", type=int, default=0, help="how many there are")
    verb.add_argument("--process", type=int, default=0, help="which one this is, from 0")
    verb.set_defaults(run_verb=_train)

    verb = verbs.add_parser("evaluate", help="the bound of a trained run on held-out text, as JSON")
    verb.add_argument("--run", "--model", type=pathlib.Path, required=True, help="a run, or a folder of a public model")
    verb.add_argument("--draws", type=int, help="views of each sequence (default: eval.draws of the run)")
    verb.add_argument("--sequences", type=int, help="held-out sequences (default: eval.sequences of the run)")
    verb.add_argument("--data", help="the corpus, where it is not at the run's data.path")
    verb.add_argument("--source", choices=("stdlib", "text", "tfds", "tokens", "markov"), help="of --data")
    verb.add_argument("--validation-path", help="of --data: held-out files (default: as the source holds out text)")
    verb.add_argument("--field", help="of --data: the field with the text")
    verb.add_argument("--length", type=int, help="tokens of a sequence (default: those of a row in training)")
    verb.add_argument("--out", type=pathlib.Path, help="write the JSON here too")
    verb.add_argument("--clip", action="store_true", help="block diffusion: which noise levels have the least variance")
    verb.set_defaults(run_verb=_evaluate)

    add_sample(verbs)

    verb = verbs.add_parser("check", help="what an objective promises, against a toy distribution whose law is known")
    verb.add_argument("objective", help="a name, FILE.py:FUNCTION or module:function")
    verb.add_argument("--config", default="base", help="--config.objective.KEY=VALUE overrides a key")
    verb.add_argument("--vocab", type=int, default=3, help="tokens of the toy distribution")
    verb.add_argument("--length", type=int, default=2, help="places of the toy distribution")
    verb.add_argument("--draws", type=int, default=100_000, help="of the noise of each sequence")
    verb.add_argument("--seed", type=int, default=0, help="of the toy distribution and of the noise")
    verb.set_defaults(run_verb=_check)

    add_sweep(verbs)
    add_bench(verbs)
    add_convert(verbs)

    add_data(verbs)
    return parser


def _train(options) -> int:
    prepare_devices()
    join_processes(options.coordinator, options.processes, options.process)
    from mdlm_jax.runs.loop import train, train_all

    configs = _configs_to_train(options)
    if options.extend:
        results = [train(configs[0], options.run[0], fresh=options.fresh, extension=options.extend)]
    else:
        results = train_all(configs, options.run, fresh=options.fresh)
    for folder, result in zip(options.run, results, strict=True):
        if result is not None:
            _tell(folder, result)
    return int(any(result is not None and result.status == "failed" for result in results))


def _configs_to_train(options) -> list:
    from mdlm_jax.config import load_config, override
    from mdlm_jax.runs.execution import config_of_run
    from mdlm_jax.runs.recipes import branch_config, recipe_config

    sources = [name for name in ("config", "branch", "donor") if getattr(options, name)]
    if len(options.run) > 1 and (sources or options.extend):
        raise UserError("several of --run resume as they were started; accepted: one with --config, --branch or --from")
    if len(sources) > 1 or bool(options.donor) != bool(options.recipe):
        raise UserError("accepted: one of --config=FILE, --branch=RUN@STEP, and --from=RUN with --recipe=NAME")
    if options.donor:
        return [recipe_config(options.donor, options.recipe, options.overrides)]
    if options.branch:
        return [branch_config(options.branch, options.overrides)]
    if options.config:
        return [load_config(options.config, options.overrides)]
    # as they were started, but for how they are executed
    return [override(config_of_run(folder), options.overrides) for folder in options.run]


def _tell(folder: pathlib.Path, result) -> None:
    if result.status == "failed":
        print(f"mdlm-jax: {folder}: {result.cause}", file=sys.stderr)
        return
    bits = "" if result.bits_per_byte is None else f", {result.bits_per_byte:.4f} bits per byte"
    print(
        f"{folder}: {result.loss:.4f} +- {result.loss_standard_error:.4f} nats per token ({result.bound}){bits}, "
        f"{result.wall_seconds:.0f} s"
    )


def _evaluate(options) -> int:
    import json

    prepare_devices()
    if options.clip:
        return _search_clip(options)
    from mdlm_jax.runs.evaluate import evaluate_run
    from mdlm_jax.runs.held_out import DataOptions

    data = DataOptions(options.data, options.source, options.validation_path, options.field, options.length)
    found = evaluate_run(options.run, draws=options.draws, sequences=options.sequences, data=data)
    text = json.dumps(found, indent=1)
    print(text)
    if options.out:
        try:
            write_whole(options.out, text + "\n")
        except OSError as error:
            raise UserError(f"--out={options.out}: can not be written ({error.strerror})") from error
    return 0


def _search_clip(options) -> int:
    from mdlm_jax.runs.clip_search import search_run

    found = search_run(options.run, draws=options.draws or 8, sequences=options.sequences or 64)
    print("  low  high  variance  mean loss (nats per token)")
    for clip in found:
        print(f"{clip.low:5.2f} {clip.high:5.2f} {clip.variance:9.4f}  {clip.mean:.4f}")
    print(f"least: --config.objective.block_low={found[0].low:g} --config.objective.block_high={found[0].high:g}")
    return 0


def _check(options) -> int:
    prepare_devices()
    from mdlm_jax.exact.check_objective import check_objective

    rows = check_objective(
        options.objective,
        options.config,
        options.overrides,
        vocab=options.vocab,
        length=options.length,
        draws=options.draws,
        seed=options.seed,
    )
    return 0 if all(row.holds for row in rows) else 1
