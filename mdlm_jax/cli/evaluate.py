"""The verb `evaluate`."""

import pathlib

from mdlm_jax.cli.devices import prepare_devices
from mdlm_jax.cli.inputs import check_at_least, check_exists, check_files, check_finite, check_model
from mdlm_jax.cli.likelihood_options import add_likelihood
from mdlm_jax.cli.out import check_out, write_out


def add_evaluate(verbs) -> None:
    """Adds the verb to the command line."""
    verb = verbs.add_parser("evaluate", help="evaluate a trained run on held-out text; prints JSON")
    verb.add_argument("--run", "--model", type=pathlib.Path, required=True, help="a run, or a folder of a public model")
    verb.add_argument(
        "--draws", type=int, help="noise draws for each sequence (default: eval.draws of the run; 128 with --pairs)"
    )
    verb.add_argument("--sequences", type=int, help="number of held-out sequences (default: eval.sequences of the run)")
    verb.add_argument("--data", help="the corpus, if it is no longer at the run's data.path")
    verb.add_argument(
        "--source",
        choices=("stdlib", "text", "tfds", "tokens", "chat", "markov", "shapes", "digits", "uniform", "images"),
        help="source of --data",
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
    verb.add_argument(
        "--classify", action="store_true", help="a run on digits: which of ten captions belongs to each held-out image"
    )
    verb.add_argument(
        "--retrieve",
        type=int,
        metavar="N",
        help="a run of unified: which of N images belongs to a caption",
    )
    verb.add_argument(
        "--neighbours",
        action="store_true",
        help="a run of unified: are images that it draws copies of training images?",
    )
    add_likelihood(verb, guidance=", with --pairs")
    verb.add_argument("--length", type=int, help="tokens of a sequence (default: the row length in training)")
    verb.add_argument("--out", type=pathlib.Path, help="also write the JSON to this file")
    verb.add_argument(
        "--clip", action="store_true", help="block diffusion: search the range of noise levels with the least variance"
    )
    verb.set_defaults(run_verb=_evaluate)


def _evaluate(options) -> int:
    import json

    from mdlm_jax.runs.evaluation_options import (
        check_classify,
        check_length,
        check_likelihood,
        check_neighbours,
        check_retrieve,
        refuse_mixed,
    )
    from mdlm_jax.runs.protocols import check_protocol

    refuse_mixed(vars(options))
    if options.out:
        check_out(options.out)
    check_at_least(options, draws=1 if options.clip else 2, sequences=1, orders=1, length=1)
    check_likelihood(options.likelihood, options.draws, options.orders)
    check_finite(options, "guidance")
    if options.pairs is not None:
        check_exists(pathlib.Path(options.pairs), "a .jsonl file with prompts and answers")
    if options.protocol is not None:
        check_protocol(options.protocol, options.detokenize)
    config = check_model(options.run)
    if config is not None:
        check_length(config, options.length)
    if options.classify:
        check_classify(config, options.run, options.draws)
    if options.retrieve is not None:
        check_retrieve(config, options.run, options.retrieve, options.draws)
    if options.neighbours:
        check_neighbours(config, options.run)
    if options.path is not None:
        check_files("--path", options.path, options.field)
    if config is not None and (options.source or config.data.source) == "text":
        for option, patterns in (("--data", options.data), ("--validation-path", options.validation_path)):
            if patterns:
                check_files(option, patterns, options.field)
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
    if options.classify:
        from mdlm_jax.runs.classify import classify_run

        return classify_run(options.run, draws=options.draws, sequences=options.sequences)
    if options.retrieve is not None:
        from mdlm_jax.runs.retrieve import retrieve_run

        return retrieve_run(options.run, options.retrieve, draws=options.draws, sequences=options.sequences)
    if options.neighbours:
        from mdlm_jax.sampling.neighbours_of_run import neighbours_of_run

        return neighbours_of_run(options.run, sequences=options.sequences)
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
