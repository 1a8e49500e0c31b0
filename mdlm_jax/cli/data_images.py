"""Images under `mdlm-jax data`: `build --images` and `image-tokenizer`."""

import argparse
import json
import re

from mdlm_jax.cli.out import check_out_folder
from mdlm_jax.errors import UserError
from mdlm_jax.files import expand_home

KINDS = ("levels", "kmeans", "vqvae", "fsq")
OF_BUILD = ("image_tokenizer", "text_length", "resize", "faulty")  # options of `build` that --images reads
NOT_OF_IMAGES = ("path", "validation_path", "workers")  # and those that it does not


def add_images_to_build(verb: argparse.ArgumentParser) -> None:
    """Adds the options of images to `data build`."""
    group = verb.add_argument_group("images with captions, for data.source=images")
    group.add_argument(
        "--images",
        help="a folder with metadata.jsonl or metadata.parquet; .jsonl, .parquet and .tar files; tfds:NAME; or mnist",
    )
    group.add_argument("--image-tokenizer", help="file of `mdlm-jax data image-tokenizer`")
    group.add_argument("--text-length", type=int, help="positions of text in a row: a caption and at least one end")
    _add_faults(group, "a picture that is damaged, of another size, or whose caption is missing or too long")


def add_image_tokenizer(data_verbs) -> None:
    """Adds `data image-tokenizer`."""
    verb = data_verbs.add_parser("image-tokenizer", help="train a tokenizer of images, and print its error")
    verb.add_argument("--images", required=True, help="as in `data build`; captions are not read")
    verb.add_argument("--kind", required=True, choices=KINDS, help="levels: without loss; the others are trained")
    verb.add_argument("--side", required=True, help="pixels of an image: 28, or HEIGHTxWIDTH such as 32x48")
    verb.add_argument("--patch", type=int, required=True, help="side of the patch that a token stands for, pixels")
    verb.add_argument("--grey", action="store_true", help="one channel instead of three")
    verb.add_argument("--levels", help="levels: values of a channel, such as 4; fsq: such as 8,5,5,5")
    verb.add_argument("--size", type=int, help="kmeans and vqvae: number of codes")
    verb.add_argument("--steps", type=int, help="steps of training, of 64 images each (default: 1000)")
    verb.add_argument("--seed", type=int, help="seed of training (default: 0)")
    _add_faults(verb, "a picture that is damaged or of another size")
    verb.add_argument("--out", required=True, help="a .safetensors file")
    verb.set_defaults(run_verb=_train)


def _add_faults(verb, what: str) -> None:
    verb.add_argument("--resize", action="store_true", help="cut and scale images of another size")
    verb.add_argument("--faulty", choices=("refuse", "skip"), help=f"{what}: refuse it (default), or skip and count")


def refuse_images_options(options) -> None:
    """Refuses options of images without --images, and others with it.

    Raises:
        UserError: An option has no effect, or one is missing.
    """
    if options.images is None:
        for name in OF_BUILD:
            value = getattr(options, name)
            if value is not None and value is not False:  # 0 and '' are given
                raise UserError(f"{_flag(name)}: not read without --images; accepted: with --images")
        return
    for name in NOT_OF_IMAGES:
        if getattr(options, name) is not None:
            raise UserError(f"{_flag(name)}={getattr(options, name)}: not read with --images; accepted: without it")
    if options.source is not None:
        raise UserError(f"--source={options.source} with --images; accepted: one of the two")
    if options.image_tokenizer is None:
        raise UserError("--images needs --image-tokenizer; accepted: a file of `mdlm-jax data image-tokenizer`")
    if options.text_length is None or not 1 <= options.text_length <= 2**16:
        raise UserError(f"--text-length={options.text_length}; accepted with --images: 1 to {2**16}")


def build(options) -> int:
    """Runs `data build --images`."""
    from mdlm_jax.data.pictures import picture_files

    picture_files(options.images)
    from mdlm_jax.data.build_images import build_images

    manifest = build_images(
        options.out,
        images=options.images,
        field="text" if options.field is None else options.field,
        image_tokenizer=options.image_tokenizer,
        tokenizer=options.tokenizer,
        text_length=options.text_length,
        resize=options.resize,
        faulty=options.faulty or "refuse",
    )
    for split, counts in manifest["splits"].items():
        print(f"{options.out}: {split}: {counts['documents']:,} images with captions, {counts['tokens']:,} tokens")
    for kind, count in manifest["skipped"].items():
        print(f"{options.out}: left out: {count:,} pictures ({kind})")
    length = options.text_length + manifest["tokenizer"]["images"]["positions"]
    print(f"{options.out}: rows of {length} tokens, as --config.data.sequence_length={length}")
    return 0


def _described(options) -> dict:
    """The description of the tokenizer that the options ask for. Raises UserError where they do not fit together."""
    from mdlm_jax.image_tokenizers.store import check_described

    sides = re.fullmatch(r"([0-9]{1,5})(?:x([0-9]{1,5}))?", options.side, re.ASCII)
    if sides is None:
        raise UserError(f"--side={options.side!r}; accepted: pixels such as 28, or HEIGHTxWIDTH such as 32x48")
    described = {"kind": options.kind, "height": int(sides[1]), "width": int(sides[2] or sides[1])}
    described |= {"channels": 1 if options.grey else 3, "patch": options.patch}
    needed = {"levels": "levels", "fsq": "levels", "kmeans": "size", "vqvae": "size"}[options.kind]
    for name in ("levels", "size"):
        given = getattr(options, name)
        if (given is None) == (name == needed):
            other = "missing" if given is None else f"{given}, which is not read"
            raise UserError(f"--{name} is {other}; accepted with --kind={options.kind}: --{needed}")
    if needed == "size":
        described["size"] = options.size
    else:
        numbers = options.levels.split(",")
        if not all(re.fullmatch("[0-9]{1,5}", number, re.ASCII) for number in numbers):
            raise UserError(f"--levels={options.levels!r}; accepted: whole numbers by commas, as in 8,5,5,5")
        if options.kind == "levels" and len(numbers) > 1:
            raise UserError(f"--levels={options.levels}; accepted with --kind=levels: one number")
        described["levels"] = list(map(int, numbers)) if options.kind == "fsq" else int(numbers[0])
    if options.kind == "levels" and (options.steps is not None or options.seed is not None):
        raise UserError("--steps and --seed: not read with --kind=levels, which is not trained; accepted: without them")
    if options.steps is not None and not 1 <= options.steps <= 10**7:
        raise UserError(f"--steps={options.steps}; accepted: 1 to {10**7:,}")
    if options.seed is not None and not 0 <= options.seed < 2**32:
        raise UserError(f"--seed={options.seed}; accepted: 0 to {2**32 - 1}")
    check_described(described)
    return described


def _train(options) -> int:
    out = expand_home(options.out)
    if out.suffix != ".safetensors":
        raise UserError(f"--out={options.out} has another suffix; accepted: the name of a new .safetensors file")
    for file in (out, out.with_suffix(".png")):
        if file.exists():
            raise UserError(f"--out={options.out}: {file} exists; accepted: a name without that file")
    check_out_folder(out.parent)
    described = _described(options)
    from mdlm_jax.data.pictures import picture_files

    picture_files(options.images)
    from mdlm_jax.data.train_image_tokenizer import train_and_write

    found = train_and_write(
        out,
        described,
        images=options.images,
        resize=options.resize,
        faulty=options.faulty or "refuse",
        steps=options.steps or 1000,
        seed=options.seed or 0,
    )
    print(json.dumps(found, indent=1))
    return 0


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
