"""The options that say what may be spent: FLOPs, or dollars on named hardware."""

import argparse
from typing import Any

from mdlm_jax.errors import UserError

HARDWARE, MFU = "h200:8", 0.5


def add_budget(verb: argparse.ArgumentParser, what: str, counter: str) -> None:
    """Adds the options to a verb.

    Args:
        verb: The verb's parser.
        what: What the budget is of.
        counter: How FLOPs are counted.
    """
    spent = verb.add_mutually_exclusive_group(required=True)
    spent.add_argument("--budget", type=float, help=f"FLOPs of {what}, by {counter}")
    spent.add_argument("--dollars", type=float, help=f"instead of --budget: dollars of {what} on the hardware")
    verb.add_argument("--hardware", metavar="NAME:COUNT", help=f"(default: {HARDWARE})")
    verb.add_argument(
        "--mfu", type=float, help=f"share of the hardware's peak that the training reaches (default: {MFU})"
    )
    verb.add_argument("--price", type=float, help="dollars per device hour, instead of the listed price")


def spending(options: argparse.Namespace) -> tuple[float, Any, float]:
    """(FLOPs, hardware, MFU) of the options.

    Raises:
        UserError: An amount is not positive, the hardware is unknown, or the MFU or the price is out of its range.
    """
    from mdlm_jax.cli.fit import positive
    from mdlm_jax.costs.prices import check_mfu, flops_for, parse_hardware

    positive(options, "budget", "dollars")
    hardware = parse_hardware(HARDWARE if options.hardware is None else options.hardware, options.price)
    mfu = MFU if options.mfu is None else options.mfu
    check_mfu(mfu)
    if options.dollars is None:
        return options.budget, hardware, mfu
    if not hardware.dollars:
        raise UserError(f"--dollars={options.dollars} at a price of 0; accepted: a price above 0")
    return flops_for(options.dollars, hardware, mfu), hardware, mfu
