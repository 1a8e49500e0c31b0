"""The verb `mdlm-jax bench`."""

import argparse
import json
import os
import pathlib

from mdlm_jax.bench.cases import SUITES
from mdlm_jax.bench.torch_process import check_python
from mdlm_jax.cli.devices import prepare_devices
from mdlm_jax.cli.out import check_out_folder, write_out


def add_bench(verbs) -> None:
    """Adds the verb to the command line."""
    verb = verbs.add_parser(
        "bench", help="measure steps, memory, compilation, checkpoints and data on this machine, beside their floors"
    )
    verb.add_argument("--suite", choices=SUITES, help="sizes to measure (default: gpu or cpu, by the machine)")
    verb.add_argument(
        "--quick", dest="suite", action="store_const", const="quick", help="the small suite: a minute or two on a CPU"
    )
    verb.add_argument(
        "--torch-python", metavar="PYTHON", help="a Python with torch and numpy: also measure PyTorch, in turns"
    )
    verb.add_argument("--out", type=pathlib.Path, help="write bench.json, bench.md and bench.png into this folder")
    verb.set_defaults(run_verb=_bench)


def _bench(options: argparse.Namespace) -> int:
    if options.out is not None:
        check_out_folder(options.out)
    if options.torch_python is not None:
        check_python(options.torch_python)
    # leaves memory of the GPU for PyTorch
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    prepare_devices()
    import jax

    from mdlm_jax.bench.suite import run_suite
    from mdlm_jax.bench.tables import plot, table

    # compilation is timed, so no program may come from a cache
    jax.config.update("jax_enable_compilation_cache", False)

    def keep(found: dict) -> None:
        """A suite that is stopped leaves the cases that it has measured."""
        if options.out is not None:
            write_out(options.out / "bench.json", json.dumps(found, indent=1) + "\n")

    name = options.suite or ("gpu" if jax.default_backend() == "gpu" else "cpu")
    found = run_suite(name, options.torch_python, keep)
    text = table(found)
    print(text)
    if options.out is None:
        return 0
    keep(found)
    write_out(options.out / "bench.md", text + "\n")
    try:
        plot(found, options.out / "bench.png")
    except ImportError as error:
        print(f"no picture: {error.name} is not installed")
    return 0
