"""The verb `convert`: writes a public checkpoint as a Hugging Face folder that `--model` accepts."""

import argparse
import math
import pathlib

from mdlm_jax.cli.inputs import check_exists
from mdlm_jax.cli.out import check_out_folder
from mdlm_jax.errors import UserError


def add_convert(verbs) -> None:
    """Adds the verb to the command line."""
    verb: argparse.ArgumentParser = verbs.add_parser(
        "convert", help="convert a public checkpoint into a folder for --model"
    )
    verb.add_argument(
        "source",
        type=pathlib.Path,
        help="a Hugging Face folder, a .safetensors or a .gguf file, a folder of peft, or a run of train --from MODEL",
    )
    verb.add_argument("--out", type=pathlib.Path, required=True, help="a new folder")
    verb.add_argument("--dtype", default="", help="float32 | bfloat16 | float16 (default: each tensor as it is stored)")
    verb.add_argument(
        "--adapters", action="store_true", help="of a run with adapters: write these alone, in the format of peft"
    )
    verb.set_defaults(run_verb=_convert)


def _convert(options) -> int:
    check_exists(options.source, "a Hugging Face folder, a .safetensors or a .gguf file, or a run")
    from mdlm_jax.weights.folder import check_new_folder
    from mdlm_jax.weights.source import open_source
    from mdlm_jax.weights.tensors import DTYPES

    check_new_folder(options.out)
    check_out_folder(options.out)
    if options.dtype not in ("", *DTYPES):
        raise UserError(f"--dtype={options.dtype}; accepted: {', '.join(DTYPES)}, or nothing to keep each tensor's own")
    is_run = (options.source / "checkpoints").is_dir()
    if options.adapters and (not is_run or options.dtype):
        raise UserError("--adapters: accepted for a run of train --from MODEL with model.lora_rank, without --dtype")
    if not is_run:
        open_source(options.source)  # reads the headers alone, before the slow imports
    from mdlm_jax.runs.export import export_run
    from mdlm_jax.runs.say import doing
    from mdlm_jax.weights.save import convert

    with doing(f"converting {options.source}", one_process=True):
        if is_run:
            source = export_run(options.source, options.out, dtype=options.dtype, adapters=options.adapters)
        else:
            source = convert(options.source, options.out, dtype=options.dtype)
    if options.adapters:
        print(f"{options.out}: adapters of {source.path}")
        return 0
    slots = source.description.slots
    count = sum(math.prod(slot.shape) for slot in slots)
    print(f"{options.out}: {source.kind}, {count:,} parameters in {len(slots)} tensors")
    return 0
