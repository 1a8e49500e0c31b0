"""The options that choose a likelihood, of `evaluate` and `harness`."""

import argparse


def add_likelihood(verb: argparse.ArgumentParser, guidance: str) -> None:
    """Adds the options to a verb; `guidance` ends the help of --guidance."""
    verb.add_argument("--guidance", type=float, help=f"weight of classifier-free guidance by the prompt{guidance}")
    verb.add_argument(
        "--likelihood",
        help="elbo (what the objective reports; the default), or for networks that read masks: orders (a tighter "
        "bound, from several random orders), left_to_right or confidence (exact, of the sampler that decodes in "
        "this order)",
    )
    verb.add_argument(
        "--orders", type=int, help="number of orders of each sequence with --likelihood=orders (default: 64)"
    )
