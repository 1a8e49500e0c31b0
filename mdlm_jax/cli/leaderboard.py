"""The verb `leaderboard`: one page of models x tasks from folders of the harness."""

import argparse
import pathlib

from mdlm_jax.cli.inputs import check_exists
from mdlm_jax.cli.out import check_out, write_out


def add_leaderboard(verbs: argparse._SubParsersAction) -> None:
    """Adds the verb to the command line."""
    verb = verbs.add_parser("leaderboard", help="compare results of the harness on the same items, as one HTML page")
    verb.add_argument("folders", type=pathlib.Path, nargs="+", help="folders that mdlm-jax harness wrote")
    verb.add_argument("--out", type=pathlib.Path, required=True, help="the page, as HTML")
    verb.set_defaults(run_verb=_leaderboard)


def _leaderboard(options: argparse.Namespace) -> int:
    check_out(options.out)
    for folder in options.folders:
        check_exists(folder, "a folder that mdlm-jax harness wrote")
    from mdlm_jax.report.leaderboard import read_board
    from mdlm_jax.report.leaderboard_page import leaderboard_page

    write_out(options.out, leaderboard_page(read_board(options.folders)))
    print(options.out)
    return 0
