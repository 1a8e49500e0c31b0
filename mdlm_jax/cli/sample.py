"""The verb `sample`: draws text from a trained run, or compares several samplers."""

import argparse
import pathlib
from typing import Any

from mdlm_jax.cli.devices import prepare_devices
from mdlm_jax.cli.inputs import check_at_least, check_model
from mdlm_jax.cli.out import check_out_folder
from mdlm_jax.cli.sampler_options import SAMPLER_FIELDS, check_fields, check_sampler
from mdlm_jax.errors import UserError

# options that set fields of a sampler
FIELDS = ("steps", "temperature", "top_k", "top_p", "guidance", "correctors")
FIELDS += ("block_size", "confidence", "rule", "limit", "cache", "counts")
TOKENS = ("stop", "suppress", "delay")  # fields whose values are tokens


def add_sample(verbs: argparse._SubParsersAction) -> None:
    """Adds the verb to the command line."""
    verb = verbs.add_parser("sample", help="sample text from a trained run or a public model")
    verb.add_argument("--run", "--model", type=pathlib.Path, required=True, help="a run, or a folder of a public model")
    verb.add_argument(
        "--prompt", action="append", help="the beginning of the text; repeat the option for several prompts"
    )
    verb.add_argument(
        "--chat",
        type=pathlib.Path,
        help="conversations to answer, by the model's chat template: .jsonl and .parquet files, folders, globs",
    )
    verb.add_argument("--count", type=int, help="samples of each prompt (default: 1; with --compare 8)")
    verb.add_argument(
        "--length", type=int, help="tokens in all, including the prompt (default: the row length in training)"
    )
    verb.add_argument("--new-tokens", type=int, help="tokens after each prompt, instead of --length")
    verb.add_argument(
        "--mask-token",
        help="text that stands for one masked position in a prompt, such as <mask>; <mask:5> stands for five",
    )
    verb.add_argument(
        "--infill",
        type=pathlib.Path,
        action="append",
        help="a text file with masks to fill (default mask: <mask>)",
    )
    verb.add_argument("--seed", type=int, default=0)
    verb.add_argument(
        "--sampler",
        help="a name, optionally with fields, such as remasking:strategy=cap,eta=0.01, or FILE.py:FUNCTION for "
        f"one of your own (default: the usual one of the objective); names: {', '.join(SAMPLER_FIELDS)}",
    )
    verb.add_argument("--plan", help="--sampler with all its fields; no other option may then set one")
    verb.add_argument(
        "--out",
        type=pathlib.Path,
        help="write a replay into this folder: replay.html, replay.json; pictures.png of captioned images",
    )
    verb.add_argument(
        "--compare",
        action="append",
        metavar="SAMPLER",
        help="compare samplers side by side, into --out: confidence:rule=threshold,limit=0.9; repeat for each sampler",
    )
    verb.add_argument(
        "--judge",
        type=pathlib.Path,
        help="with --compare: a run of `ar` or a public model that scores the text",
    )
    field = verb.add_argument_group("fields of several samplers").add_argument
    field("--steps", type=int, help="steps of the reverse process (default: one per token)")
    field("--temperature", type=float, help="softmax temperature (default: 1); 0 takes the likeliest token")
    field("--top-k", type=int, help="sample from this many of the likeliest tokens")
    field("--top-p", type=float, help="sample from the smallest set of tokens with this probability")
    field("--guidance", type=float, help="weight of classifier-free guidance by the prompt (default: 0)")
    field("--stop", help="the token that ends a text: its id, or text")
    field("--suppress", help="tokens that are never sampled: ids such as 3+7, or the tokens of a text")
    field("--delay", help="with confidence: tokens that are unmasked last: ids such as 3+7, or the tokens of a text")
    field("--correctors", type=int, help="with predictor_corrector: corrector steps after each step (default: 2)")
    field = verb.add_argument_group("fields of the sampler `confidence`").add_argument
    field("--block-size", type=int, help="tokens per block; blocks are decoded from left to right (default: one block)")
    field("--confidence", help="the ranking of positions: probability (default), margin, entropy, left or random")
    field(
        "--rule",
        help="positions unmasked by a step: quota (default), threshold, dynamic, factor or entropy_bound",
    )
    field("--limit", type=float, help="value of the rule: a probability, a factor, or nats")
    field("--cache", help="none (default), prefix, dual, sub_block or features")
    field("--counts", help="schedule of tokens over steps: linear (default), cosine, arccos, smdm, dllm_linear ..")
    verb.set_defaults(run_verb=_sample)


def _sample(options: argparse.Namespace) -> int:
    check_at_least(
        options, count=1, length=1, new_tokens=1, steps=1, temperature=0, top_k=1, block_size=1, correctors=0
    )
    from mdlm_jax.configs.checks import check_seed

    check_fields(options)
    check_seed(options.seed)
    if options.out is not None:
        check_out_folder(options.out)
    fields = {name: getattr(options, name) for name in FIELDS if getattr(options, name) is not None}
    tokens = {name: getattr(options, name) for name in TOKENS if getattr(options, name) is not None}
    if options.chat is not None:
        for name in ("prompt", "infill", "mask_token", "compare"):
            if getattr(options, name):
                raise UserError(f"--chat gives whole prompts; accepted without --{name.replace('_', '-')}")
    if options.compare:
        alone = ("sampler", "plan", "infill", "mask_token", "new_tokens")
        others = fields | tokens | {name: True for name in alone if getattr(options, name)}
        if others:
            raise UserError(
                f"--compare names whole samplers; accepted without --{next(iter(others)).replace('_', '-')}"
            )
        return _compare(options)
    if options.judge:
        raise UserError("--judge scores what is compared; accepted with --compare=SAMPLER")
    if options.plan and (fields or tokens or options.sampler):
        other = next(iter(fields | tokens), "sampler").replace("_", "-")
        raise UserError(f"--plan names a whole sampler; accepted without --{other}")
    if options.mask_token == "":
        raise UserError("--mask-token= is empty; accepted: a text, such as <mask>")
    if (sampler := options.plan or options.sampler) is not None:
        check_sampler(sampler, fields | tokens)
    prompts, mask_token = _prompts(options), options.mask_token or ""
    check_model(options.run)
    prepare_devices()
    from mdlm_jax.sampling.sample_run import sample_run

    if options.infill and not mask_token:
        mask_token = "<mask>"
    texts = sample_run(
        options.run,
        prompts=prompts,
        sampler=sampler,
        fields=fields,
        count=1 if options.count is None else options.count,
        length=options.length,
        new_tokens=options.new_tokens,
        mask_token=mask_token,
        tokens=tokens,
        seed=options.seed,
        out=options.out,
    )
    for text in texts:
        print(text, end="")
    return 0


def _prompts(options: argparse.Namespace) -> list[Any]:
    """Texts to continue, by default the empty one; or conversations to answer."""
    if options.chat is None:
        return (options.prompt or []) + _texts(options.infill or []) or [""]
    from mdlm_jax.data.conversations import read_conversations

    found = [messages for _, messages in read_conversations("--chat", str(options.chat), answered=False)]
    if not found:
        raise UserError(f"--chat={options.chat} holds no conversation; accepted: one object with `messages` a line")
    return found


def _texts(paths: list[pathlib.Path]) -> list[str]:
    try:
        # `read_text` would change the line breaks of the text
        return [path.read_bytes().decode("utf-8-sig").removesuffix("\n").removesuffix("\r") for path in paths]
    except (OSError, ValueError) as error:
        raise UserError(f"--infill: {error}; accepted: a text file in UTF-8") from error


def _compare(options: argparse.Namespace) -> int:
    prompts, out = options.prompt or [""], options.out
    if out is None or len(prompts) > 1:
        raise UserError("--compare needs --out=FOLDER for its chart, and takes one --prompt at most")
    for sampler in options.compare:
        check_sampler(sampler)
    if options.judge is not None:
        check_model(options.judge)
    check_model(options.run)
    prepare_devices()
    from mdlm_jax.sampling.compare_run import compare_run
    from mdlm_jax.sampling.show.chart import table
    from mdlm_jax.tables import show

    rows = compare_run(
        options.run,
        samplers=options.compare,
        out=out,
        judge=options.judge,
        prompt=prompts[0],
        count=8 if options.count is None else options.count,
        length=options.length,
        seed=options.seed,
    )
    show(table(rows))
    print(f"{out / 'compare.png'}")
    return 0
