"""The verb `next`: the runs that narrow the interval of a compute multiplier most per FLOP."""

from mdlm_jax.cli.budget import add_budget, spending
from mdlm_jax.cli.fit import add_kept, read_kept
from mdlm_jax.errors import UserError


def add_next(verbs) -> None:
    """Adds the verb to the command line."""
    verb = verbs.add_parser("next", help="the runs that narrow the interval of a compute multiplier most per FLOP")
    add_kept(verb)
    verb.add_argument("--reference", default="ar", help="the objective that it is compared with (default: ar)")
    add_budget(verb, "all new runs together", "6 N D")
    verb.set_defaults(run_verb=_next)


def _next(options) -> int:
    import json
    from collections import Counter

    from mdlm_jax.costs.prices import dollars

    if options.dollars is None:
        for name in ("hardware", "mfu", "price"):
            if (value := getattr(options, name)) is not None:
                raise UserError(f"--{name}={value}; accepted: with --dollars")
    budget, hardware, mfu = spending(options)
    other, reference = (kept.fitted for kept in read_kept(options, "objective", "reference"))
    from mdlm_jax.laws import Refusal, propose
    from mdlm_jax.runs.say import doing
    from mdlm_jax.sweeps.proposals import candidate_grid

    grid = candidate_grid(reference, other)
    with doing("comparing the runs that are possible", one_process=True):
        found = propose(reference, other, grid.candidates, budget)
    if isinstance(found, Refusal):
        raise UserError(f"{options.objective} against {options.reference}: {found.reason}")
    runs = [
        {
            "objective": (options.reference, options.objective)[grid.candidates.objective[at]],
            "size": grid.sizes[at],
            "tokens": float(grid.candidates.tokens[at]),
            "flops": float(grid.candidates.cost[at]),
            "seeds": seeds,
        }
        for at, seeds in Counter(found.chosen.tolist()).items()
    ]
    told = {
        "multiplier": found.now.mean,
        "interval": [found.now.low, found.now.high],
        "counter": "6 N D",
        "interval_width_expected": found.width_then / found.width_now,
        "flops": (total := sum(run["flops"] * run["seeds"] for run in runs)),
        "runs": runs,
    }
    if options.dollars is not None:
        told["dollars"] = dollars(total, hardware, mfu)
    print(json.dumps(told, indent=1))
    return 0
