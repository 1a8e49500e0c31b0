"""The verb `advise`: the compute-optimal run of a budget, as a config file."""

import pathlib

from mdlm_jax.cli.budget import add_budget, spending
from mdlm_jax.cli.fit import add_kept, read_kept
from mdlm_jax.cli.out import check_out, write_out


def add_advise(verbs) -> None:
    """Adds the verb to the command line."""
    verb = verbs.add_parser("advise", help="the compute-optimal run of a budget, as a config for train")
    add_kept(verb)
    add_budget(verb, "the run", "the budget_counter of the config; dollars pay for FLOPs that are counted exactly")
    verb.add_argument(
        "--config", required=True, help="data, vocabulary and all else of the run: a preset by name, or a config file"
    )
    verb.add_argument(
        "--rule",
        choices=("deepseek", "step_law", "smdm", "config"),
        default="deepseek",
        help="of learning rate and batch: those of --config with config (default: deepseek)",
    )
    verb.add_argument("--out", type=pathlib.Path, required=True, help="the config file")
    verb.set_defaults(run_verb=_advise, takes_keys=True)


def _advise(options) -> int:
    import json

    from mdlm_jax.config import load_config
    from mdlm_jax.costs.prices import dollars, hours

    budget, hardware, mfu = spending(options)
    check_out(options.out)
    config = load_config(options.config, options.overrides)
    if options.dollars is not None:
        config.budget_counter = "exact"  # what the hardware computes
    (kept,) = read_kept(options, "objective")
    from mdlm_jax.sweeps.advise import advise, config_file
    from mdlm_jax.sweeps.plan import memory_of

    advice = advise(kept, options.objective, config, budget, options.rule, hardware.devices)
    run, predicted = advice.run, advice.predicted
    memory, flops = memory_of(run, hardware.devices).total, float(run.flops.exact)
    told = {
        "objective": options.objective,
        "budget": budget,
        "budget_counter": run.config.budget_counter,
        "size": run.config.model.size,
        "parameters_non_embedding": run.parameters.non_embedding,
        "tokens": run.tokens,
        "steps": run.steps,
        "batch_size": run.config.train.batch_size,
        "learning_rate": run.config.optim.lr,
        "rule": options.rule,
        "loss": float(predicted.loss[0]),
        "interval_of_mean": [float(predicted.low[0]), float(predicted.high[0])],
        "interval_of_new_run": [float(predicted.run_low[0]), float(predicted.run_high[0])],
        "decades_outside": float(predicted.distance[0]),
        "sizes_compared": advice.compared,
        "best_is_at_the_edge": advice.edge,
        "hardware": f"{hardware.name}:{hardware.devices}",
        "hours": hours(flops, hardware, mfu),
        "dollars": dollars(flops, hardware, mfu),
        "gigabytes_a_device": memory / 1e9,
        "fits": memory <= hardware.memory,
    }
    low, high = told["interval_of_new_run"]
    about = (
        f"Compute-optimal for {options.objective} at {budget:.3g} FLOPs.\n\n"
        f"Expected: {told['loss']:.4f} nats per token, a new run within {low:.4f} to {high:.4f} (95%),\n"
        f"{told['decades_outside']:.2f} decades outside the fitted runs.\n"
    )
    write_out(options.out, config_file(run.config, about))
    print(json.dumps(told, indent=1))
    return 0
