"""The command `mdlm-jax` and its verbs. Exit codes: 0 done, 1 failed, 2 wrong input, 130 interrupted."""

import argparse
import os
import sys
from collections.abc import Callable
from typing import NoReturn

import mdlm_jax
from mdlm_jax.cli.advise import add_advise
from mdlm_jax.cli.bench import add_bench
from mdlm_jax.cli.check import add_check
from mdlm_jax.cli.config import add_config
from mdlm_jax.cli.convert import add_convert
from mdlm_jax.cli.data import add_data
from mdlm_jax.cli.evaluate import add_evaluate
from mdlm_jax.cli.fit import add_fit
from mdlm_jax.cli.harness import add_harness
from mdlm_jax.cli.leaderboard import add_leaderboard
from mdlm_jax.cli.next import add_next
from mdlm_jax.cli.sample import add_sample
from mdlm_jax.cli.streams import prepare_streams
from mdlm_jax.cli.sweep import add_sweep
from mdlm_jax.cli.train import add_train
from mdlm_jax.cli.transfer import add_transfer
from mdlm_jax.errors import UserError, out_of_memory
from mdlm_jax.interrupts import EXIT_CODE as INTERRUPTED

WRONG_INPUT, PIPE_CLOSED = 2, 141


class Parser(argparse.ArgumentParser):
    """A parser that accepts no abbreviated options and reports a mistake in one line."""

    def __init__(self, *arguments, **options) -> None:
        super().__init__(*arguments, **options | {"allow_abbrev": False})

    def error(self, message: str) -> NoReturn:
        """Raises UserError instead of printing the usage."""
        raise UserError(f"{' '.join(message.split())}; see {self.prog} --help")


def command() -> None:
    """Runs `mdlm-jax` as a process. On an error it exits at once, without waiting for the threads of a failed save."""
    prepare_streams()
    try:
        main()
    except SystemExit as ended:
        if ended.code in (WRONG_INPUT, INTERRUPTED, PIPE_CLOSED):
            sys.stderr.flush()
            os._exit(ended.code)
        raise


def main(arguments: list[str] | None = None) -> None:
    """Runs the command with these arguments, by default those of the process. Raises SystemExit with its exit code."""
    sys.exit(exit_code(lambda: _run(sys.argv[1:] if arguments is None else arguments)))


def exit_code(act: Callable[[], int]) -> int:
    """What `act` returns or, for an error of the user's or of the machine, the exit code for it, after one line."""
    try:
        code = act()
        sys.stdout.flush()
        return code
    except UserError as error:
        return _print_error(str(error), WRONG_INPUT)
    except KeyboardInterrupt:
        return _print_error("interrupted", INTERRUPTED)
    except BrokenPipeError:
        return PIPE_CLOSED  # the reader of the output has closed it
    except SystemExit as ended:
        if isinstance(ended.__context__, BrokenPipeError):  # rich ends the process itself
            return PIPE_CLOSED
        raise
    except OSError as error:
        named = f"{error.filename}: " if error.filename else ""
        return _print_error(f"{named}{error.strerror or error}", WRONG_INPUT)
    except Exception as error:
        if not (cause := out_of_memory(error)):
            raise
        return _print_error(f"{cause}; accepted: smaller sizes, counts or batches", WRONG_INPUT)


def _print_error(line: str, code: int) -> int:
    # a field or file that the line names may itself have line breaks
    print(f"mdlm-jax: {' '.join(line.splitlines())}", file=sys.stderr)
    return code


def _run(arguments: list[str]) -> int:
    if "--" in arguments:
        raise UserError("--: not understood; options are written without it")
    options, rest = _parser().parse_known_args(arguments)
    for word in rest:
        if not (options.takes_keys and word.startswith("--config.")):
            accepted = "--config.KEY=VALUE and the options" if options.takes_keys else "the options"
            raise UserError(f"{word}: not understood; accepted: {accepted} of mdlm-jax {options.verb} --help")
    options.overrides = rest
    return options.run_verb(options)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="mdlm-jax", description=(mdlm_jax.__doc__ or "").splitlines()[0])
    parser.add_argument("--version", action="version", version=f"mdlm-jax {mdlm_jax.__version__}")
    parser.set_defaults(takes_keys=False)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    add_train(verbs)
    add_evaluate(verbs)
    add_sample(verbs)
    add_check(verbs)
    add_sweep(verbs)
    add_transfer(verbs)
    add_fit(verbs)
    add_advise(verbs)
    add_next(verbs)
    add_bench(verbs)
    add_convert(verbs)
    add_harness(verbs)
    add_leaderboard(verbs)
    add_config(verbs)
    add_data(verbs)
    return parser
