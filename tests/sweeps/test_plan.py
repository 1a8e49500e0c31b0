"""Names and costs of planned runs."""

import pytest
from ml_collections import ConfigDict

from mdlm_jax.build import plan
from mdlm_jax.build.plan import _view_shape
from mdlm_jax.configs import base, smdm
from mdlm_jax.costs.prices import dollars, parse_hardware
from mdlm_jax.errors import UserError
from mdlm_jax.sweeps.names import run_id
from mdlm_jax.sweeps.plan import plan_runs, plan_table


def config(**keys) -> ConfigDict:
    made = base.get_config()
    made.budget, made.model.size = 1e10, "4k"
    made.update_from_flattened_dict({key.replace("__", "."): value for key, value in keys.items()})
    return made


def test_identity():
    assert run_id(config(objective__name="ar", budget=3e9)) == "ar-3e9-4k-lr0.01-seed0"
    assert run_id(config(budget=6e18, seed=2, optim__lr=4e-4)) == "masked-6e18-4k-lr0.0004-seed2"
    assert (
        run_id(config(budget=0.0, model__size="", model__layers=2, model__width=64, steps=7))
        == "masked-7steps-2x64-lr0.01-seed0"
    )


def test_all_mistakes_in_one_message():
    """Each mistake is listed once, however many runs share it."""
    wrong = [
        *(config(objective__name="none", seed=seed) for seed in range(3)),
        config(budget=1.0),
        config(),
    ]
    with pytest.raises(UserError) as caught:
        plan_runs(wrong)
    first, second = str(caught.value).splitlines()
    assert first.startswith("none-1e10-4k-lr0.01-seed0 and 2 more: config.objective.name is 'none'; accepted: ar,")
    assert second.startswith("masked-1-4k-lr0.01-seed0: a budget of 1 FLOPs is smaller than one step")


def test_shared_plan_equals_single_plans():
    """Configs that differ in seed and budget share work without changing a figure; SMDM itself takes 303,004 steps."""
    big = smdm.get_config()
    big.model.size = "6M"
    configs = [config(budget=budget, seed=seed) for budget in (1e10, 3e10) for seed in (0, 1)]
    configs += [config(budget=0.0, steps=steps) for steps in (5, 6)] + [big]
    for planned, mine in zip(plan_runs(configs), configs, strict=True):
        alone = plan(mine)
        assert (planned.steps, planned.flops) == (alone.steps, alone.total)
        assert planned.tokens == alone.steps * alone.tokens_per_step
    assert planned.steps == 303_004


def test_thousand_runs_trace_four_views():
    """Tracing is the slow part of a plan: each objective's view is traced once, whatever the sizes and budgets."""
    configs = [
        config(objective__name=name, model__size=size, budget=1e12 * i)
        for name in ("ar", "masked", "any_order", "any_order_causal")
        for size in ("4k", "33k", "131k", "1.3M", "9.8M")
        for i in range(10, 60)
    ]
    _view_shape.cache_clear()
    assert len(plan_runs(configs)) == 1000
    assert _view_shape.cache_info().misses == 4


def test_learning_rates_share_step_flops():
    """The FLOPs of a step are counted once, but every config is checked."""
    configs = [config(optim__lr=1e-3), config(optim__lr=2e-3), config(optim__lr=-1.0)]
    with pytest.raises(UserError, match=r"^masked-1e10-4k-lr-1-seed0: config.optim.lr is -1.0; accepted: above 0"):
        plan_runs(configs)
    first, second = plan_runs(configs[:2])
    assert first.step is second.step


def test_warmup_of_each_run():
    for planned in plan_runs([config(budget=budget) for budget in (1e10, 1e12)]):
        assert planned.warmup_steps == plan(planned.config).warmup_steps


def test_name_shows_unique_tokens():
    assert run_id(config(budget=0.0, steps=9, data__unique_tokens=4096)) == "masked-9steps-unique4096-4k-lr0.01-seed0"


def cells(table):
    return {column.header: (list(column.cells), column.footer) for column in table.columns}


def test_hours_and_dollars_on_named_hardware():
    """6e18 FLOPs by 6ND of 2121M on eight H200 at half of 989 TFLOP/s, by hand."""
    big = smdm.get_config()
    big.model.size = "2121M"
    planned = plan_runs([big])
    found = cells(plan_table(planned, parse_hardware("h200:8", price=2.0), mfu=0.5))
    expected = planned[0].flops.exact / (8 * 989e12 * 0.5) / 3600
    assert found["steps"][0] == ["899"] and found["warm-up"][0] == ["100"] and found["batch"][0] == ["256"]
    assert found["hours on h200:8"] == ([f"{expected:.3g}"], f"{expected:.2f}")
    assert float(found["$"][0][0]) == pytest.approx(16 * expected, rel=1e-2)
    assert found["of 141"] == (["fits"], "all fit")
    found = cells(plan_table(planned, parse_hardware("v5e:4")))
    assert found["of 17"] == (["too much"], "1 do not fit")
    assert "exact" in found and "hours on v5e:4" not in cells(plan_table(planned))


@pytest.mark.parametrize("text", ["h300:8", "h200:0", "h200:x", ""])
def test_unknown_hardware_is_refused(text):
    with pytest.raises(UserError, match="accepted: NAME:COUNT, with a name of a100, h100"):
        parse_hardware(text)


def test_dollars_ignore_the_device_count():
    one, eight = parse_hardware("h100"), parse_hardware("h100:8")
    assert dollars(1e18, one, 0.4) == pytest.approx(dollars(1e18, eight, 0.4))
