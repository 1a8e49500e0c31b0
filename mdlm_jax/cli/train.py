"""The verbs `train` and `evaluate`."""

import pathlib
import sys
from collections.abc import Sequence

from mdlm_jax.cli.devices import join_processes, prepare_devices
from mdlm_jax.cli.inputs import check_at_least, check_exists, check_model
from mdlm_jax.cli.likelihood_options import add_likelihood
from mdlm_jax.cli.out import check_out, write_out
from mdlm_jax.cli.trainer import train_each
from mdlm_jax.errors import UserError
from mdlm_jax.runs.evaluation_options import refuse_mixed


def add_train(verbs) -> None:
    """Adds both verbs to the command line."""
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

    verb = verbs.add_parser("evaluate", help="evaluate a trained run on held-out text; prints JSON")
    verb.add_argument("--run", "--model", type=pathlib.Path, required=True, help="a run, or a folder of a public model")
    verb.add_argument(
        "--draws", type=int, help="noise draws for each sequence (default: eval.draws of the run; 128 with --pairs)"
    )
    verb.add_argument("--sequences", type=int, help="number of held-out sequences (default: eval.sequences of the run)")
    verb.add_argument("--data", help="the corpus, if it is no longer at the run's data.path")
    verb.add_argument(
        "--source", choices=("stdlib", "text", "tfds", "tokens", "chat", "markov", "shapes"), help="source of --data"
    )
    verb.add_argument("--validation-path", help="held-out files of --data (default: the source's own split)")
    verb.add_argument("--path", help="text files to evaluate from beginning to end: .txt, .jsonl and others")
    verb.add_argument("--protocol", help="zero-shot perplexity of --path as published: sedd or mdlm")
    verb.add_argument(
        "--detokenize",
        help="with --protocol: the test set whose word tokenization is undone: wikitext, ptb, lm1b, lambada or "
        "scientific_papers",
    )
    verb.add_argument("--field", help="field with the text in --data or --path")
    verb.add_argument("--pairs", help="a .jsonl file with prompts and answers; evaluates the nats of each answer")
    verb.add_argument("--prompt-field", help="field with the prompt in --pairs (default: prompt)")
    verb.add_argument("--answer-field", help="field with the answer in --pairs (default: answer)")
    add_likelihood(verb, guidance=", with --pairs")
    verb.add_argument("--length", type=int, help="tokens of a sequence (default: the row length in training)")
    verb.add_argument("--out", type=pathlib.Path, help="also write the JSON to this file")
    verb.add_argument(
        "--clip", action="store_true", help="block diffusion: search the range of noise levels with the least variance"
    )
    verb.set_defaults(run_verb=_evaluate)


def _train(options) -> int:
    from mdlm_jax.config import from_json, load_config
    from mdlm_jax.configs.relations import refuse_contradictions

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
    configs = [load_config(options.config, options.overrides)] if options.config else []
    for config in configs:
        refuse_contradictions(config)
    if options.donor:
        check_exists(options.donor, "the folder of a public model, or with --recipe that of a run")
    for folder in () if sources else options.run:
        from_json(folder / "config.json")
    prepare_devices()
    join_processes(options.coordinator, options.processes, options.process)
    from mdlm_jax.runs.loop import train, train_all

    configs = configs or _configs_of_runs(options)
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


def _configs_of_runs(options) -> list:
    from mdlm_jax.config import override
    from mdlm_jax.runs.execution import config_of_run
    from mdlm_jax.runs.recipes import branch_config, model_config, recipe_config

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


def _evaluate(options) -> int:
    import json

    refuse_mixed(vars(options))
    if options.out:
        check_out(options.out)
    check_at_least(options, draws=1, sequences=1, orders=1, length=1)
    if options.pairs is not None:
        check_exists(pathlib.Path(options.pairs), "a .jsonl file with prompts and answers")
    check_model(options.run)
    prepare_devices()
    if options.clip:
        return _search_clip(options)
    text = json.dumps(_evaluated(options), indent=1)
    print(text)
    if options.out:
        write_out(options.out, text + "\n")
    return 0


def _evaluated(options) -> dict:
    if options.pairs is not None:
        from mdlm_jax.runs.pairs import evaluate_pairs

        return evaluate_pairs(
            options.run,
            options.pairs,
            likelihood=options.likelihood,
            draws=options.draws,
            orders=options.orders,
            guidance=options.guidance,
            prompt_field=options.prompt_field,
            answer_field=options.answer_field,
        )
    from mdlm_jax.runs.evaluate import evaluate_run
    from mdlm_jax.runs.held_out import DataOptions

    data = DataOptions(options.data, options.source, options.validation_path, options.field, options.length)
    return evaluate_run(
        options.run,
        draws=options.draws,
        sequences=options.sequences,
        data=data,
        path=options.path,
        protocol=options.protocol,
        detokenize=options.detokenize,
        likelihood=options.likelihood,
        orders=options.orders,
    )


def _search_clip(options) -> int:
    from mdlm_jax.runs.clip_search import search_run

    draws, sequences = options.draws, options.sequences
    found = search_run(
        options.run, draws=8 if draws is None else draws, sequences=64 if sequences is None else sequences
    )
    print("  low  high  variance  mean loss (nats per token)")
    for clip in found:
        print(f"{clip.low:5.2f} {clip.high:5.2f} {clip.variance:9.4f}  {clip.mean:.4f}")
    print(f"least: --config.objective.block_low={found[0].low:g} --config.objective.block_high={found[0].high:g}")
    return 0
