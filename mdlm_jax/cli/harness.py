"""The verb `harness`: tasks of the LM evaluation harness."""

import argparse
import pathlib

from mdlm_jax.cli.devices import prepare_devices
from mdlm_jax.cli.inputs import check_at_least, check_finite, check_model
from mdlm_jax.cli.likelihood_options import add_likelihood
from mdlm_jax.cli.out import check_out_folder
from mdlm_jax.cli.sampler_options import check_sampler


def add_harness(verbs: argparse._SubParsersAction) -> None:
    """Adds the verb to the command line."""
    verb = verbs.add_parser("harness", help="run tasks of the LM evaluation harness (lm_eval)")
    verb.add_argument("--run", "--model", type=pathlib.Path, required=True, help="a run, or a folder of a public model")
    verb.add_argument("--tasks", required=True, help="names or patterns of tasks, separated by commas")
    verb.add_argument("--include-path", type=pathlib.Path, help="a folder with your own task files")
    verb.add_argument(
        "--out",
        type=pathlib.Path,
        required=True,
        help="folder for results; a killed evaluation resumes from the answers in it",
    )
    verb.add_argument(
        "--draws",
        type=int,
        help="noise draws for each answer, where the likelihood is a bound (default: 128)",
    )
    add_likelihood(verb, guidance=", for answers and for drawn text")
    verb.add_argument("--chat", action="store_true", help="apply the model's chat template")
    verb.add_argument("--system", metavar="TEXT", help="system message before each document")
    verb.add_argument("--shots", type=int, help="examples before each document (default: as the task says)")
    verb.add_argument(
        "--shots-as-turns",
        action="store_true",
        help="with --chat: each example is a question and an answer",
    )
    verb.add_argument("--limit", type=int, help="number of documents of each task (default: all)")
    verb.add_argument("--batch-size", type=int, help="rows computed at once (default: eval.batch_size of the run)")
    verb.add_argument("--length", type=int, help="longest input in tokens (default: the row length in training)")
    verb.add_argument(
        "--sampler", help="sampler for generation tasks, as in `mdlm-jax sample` (default: the usual one of the run)"
    )
    verb.set_defaults(run_verb=_harness)


def _harness(options: argparse.Namespace) -> int:
    from mdlm_jax.harness.prompts import Prompts, check_prompts
    from mdlm_jax.harness.task_folder import check_task_folder
    from mdlm_jax.runs.evaluation_options import check_length, check_likelihood

    check_at_least(options, limit=1, draws=2, orders=1, shots=0, batch_size=1, length=1)
    prompts = Prompts(options.chat, options.system, options.shots, options.shots_as_turns)
    check_prompts(prompts)
    check_likelihood(options.likelihood, options.draws, options.orders)
    check_finite(options, "guidance")
    if options.sampler is not None:
        check_sampler(options.sampler)
    check_task_folder(options.include_path)
    config = check_model(options.run)
    if config is not None:
        check_length(config, options.length)
    check_out_folder(options.out)
    from mdlm_jax.harness.evaluate import check_installed, harness

    check_installed()
    prepare_devices()
    found = harness(
        options.run,
        options.tasks.split(","),
        options.out,
        include_path=options.include_path,
        limit=options.limit,
        prompts=prompts,
        draws=options.draws,
        likelihood=options.likelihood,
        orders=options.orders,
        guidance=options.guidance,
        batch_size=options.batch_size,
        length=options.length,
        sampler=options.sampler,
    )
    for task, metrics in found["results"].items():
        shown = [
            f"{name.removesuffix(',none')} {value:.4f}"
            for name, value in metrics.items()
            if isinstance(value, float) and "_stderr" not in name
        ]
        print(f"{task}: {', '.join(shown)}")
        if noise := found["likelihoods"].get(task):
            error = noise["nats_per_request_monte_carlo_error"]
            print(f"  {noise['nats_per_request']:.4f} +- {error:.4f} nats per request, of the noise")
    return 0
