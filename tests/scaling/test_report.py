import html.parser
import json
import re
import time

import numpy as np
import pytest

from mdlm_jax.errors import UserError
from mdlm_jax.scaling.analysis import analyse
from mdlm_jax.scaling.figures import isoflops, loss_against_flops
from mdlm_jax.scaling.fit import Multiplier, Refusal
from mdlm_jax.scaling.report import learning_curve, write_report
from mdlm_jax.scaling.result import Result
from mdlm_jax.scaling.words import not_supported, supported

SIZES = {"4k": 4144, "12k": 12400, "33k": 32928, "74k": 73968, "111k": 110928}


def sweep(objective: str, scale: float, budgets, bound="upper", noise=0.004, seed=0, best=0.25) -> list[Result]:
    """Runs around L* = 24 (C / scale)^-0.085, N* = best (C / scale)^0.47, of the sizes nearest to each optimum."""
    generator = np.random.default_rng(seed)
    results = []
    for budget in budgets:
        centre = best * (budget / scale) ** 0.47
        for size, parameters in SIZES.items():
            tokens = int(budget / (8 * parameters))
            loss = 24 * (budget / scale) ** -0.085 + 0.06 * np.log(parameters / centre) ** 2
            loss += noise * generator.standard_normal()
            results.append(
                Result(
                    schema_version=1,
                    run_id=f"{objective}-{size}-{budget:.0e}".replace("+", ""),
                    objective=objective,
                    size=size,
                    config_hash="0123abcd",
                    seed=0,
                    parameters_non_embedding=parameters,
                    parameters_total=2 * parameters,
                    tokens=tokens,
                    tokens_per_step=2048,
                    steps=tokens // 2048,
                    unique_tokens=8_000_000,
                    epochs=tokens / 8_000_000,
                    flops={
                        "six_nonembedding": 6.0 * parameters * tokens,
                        "six_total": 12.0 * parameters * tokens,
                        "six_attention": 7.0 * parameters * tokens,
                        "exact": 8.0 * parameters * tokens,
                    },
                    budget=budget,
                    budget_counter="exact",
                    loss=float(loss),
                    loss_standard_error=0.01,
                    loss_monte_carlo_error=0.0 if bound == "exact" else 0.002,
                    draws=1 if bound == "exact" else 16,
                    estimator="chain rule" if bound == "exact" else "stratified counts",
                    bound=bound,
                    bits_per_byte=float(loss / np.log(2)),
                    learning_rate=3e-3,
                    batch_size=16,
                    wall_seconds=budget / 2e10,
                    compile_seconds=1.0,
                    device="cpu",
                    versions={"jax": "0.10.2"},
                    status="done",
                    cause="",
                )
            )
    return results


def quickstart() -> list[Result]:
    return (
        sweep("ar", 1.0, (1e10, 3e10, 1e11, 3e11), bound="exact", seed=0)
        + sweep("any_order", 4.0, (3e10, 1e11, 3e11, 1e12), seed=1)
        + sweep("masked", 4.0, (3e10, 1e11, 3e11, 1e12), seed=2)
    )


def failed(run: Result, cause: str) -> Result:
    nothing = dict.fromkeys(("loss", "loss_standard_error", "loss_monte_carlo_error", "bits_per_byte"))
    return run._replace(status="failed", cause=cause, **nothing)


def write_metrics(folder, results):
    generator = np.random.default_rng(0)
    paths = {}
    for run in results:
        paths[run.run_id] = folder / f"{run.run_id}.jsonl"
        steps = np.arange(1, 400)
        flops = steps / 400 * run.flops["exact"]
        loss = run.loss + 3 * np.exp(-steps / 30) + 0.05 * generator.standard_normal(len(steps))
        rows = [{"step": int(s), "loss": x, "flops": c} for s, x, c in zip(steps, loss, flops, strict=True)]
        lines = [json.dumps(row) for row in rows]
        paths[run.run_id].write_text("\n".join([*lines[:200], '{"step": 200, "validation": 1}', *lines[200:], '{"st']))
    return paths


def test_a_report_is_whole_and_opens_offline(tmp_path):
    results = quickstart()
    results[3] = failed(results[3], "loss is NaN at step 12, <learning rate> 0.1")
    start = time.monotonic()
    path = write_report(results, tmp_path / "report", "Quickstart", metrics=write_metrics(tmp_path, quickstart()))
    assert time.monotonic() - start < 20  # 60 runs; the machine may be busy
    page = path.read_text()
    names = ["compute_multiplier", "isoflops", "learning_curves", "loss_against_flops", "optimal_sizes"]
    assert sorted(file.name for file in path.parent.iterdir()) == sorted(
        ["report.html", *(f"{name}.{kind}" for name in names for kind in ("png", "svg"))]
    )
    assert page.count("<svg") == len(names)
    fetched = re.findall(r"""(?:src|href)\s*=\s*["']([^"'#][^"']*)|url\(['"]?([^#)]+)|@import""", page)
    assert {a or b for a, b in fetched} == {f"{name}.{kind}" for name in names for kind in ("png", "svg")}
    assert "loss is NaN at step 12, &lt;learning rate&gt; 0.1" in page
    assert page.count("<tr>") == 1 + 1 + 1 + len(results) - 1
    html.parser.HTMLParser().feed(page)


def test_multipliers_are_found_and_the_control_passes():
    analysis = analyse(quickstart())
    masked = {(c.reference, c.other): c for c in analysis.comparisons}
    assert set(masked) == {("ar", "any_order"), ("ar", "masked"), ("any_order", "masked")}
    for comparison in masked.values():
        truth = 1.0 if comparison.control else 4.0
        assert comparison.multiplier.mean_low < truth < comparison.multiplier.mean_high
    assert masked["any_order", "masked"].control
    text = " ".join(supported(analysis))
    assert "masked against ar: more compute" in text
    assert "must cover 1" in text and "passed" in text
    assert "N* ∝ C^" in text and "counter 'exact'" in text


def test_a_control_that_does_not_cover_one_fails():
    results = sweep("any_order", 1.0, (1e10, 1e11, 1e12), seed=1) + sweep("masked", 2.0, (1e10, 1e11, 1e12), seed=2)
    analysis = analyse(results)
    assert [c.control for c in analysis.comparisons] == [True]
    assert any("FAILED" in sentence for sentence in not_supported(analysis))


def test_what_is_refused_is_said(tmp_path):
    results = sweep("ar", 1.0, (1e10, 3e10, 1e11), bound="exact") + sweep("masked", 1e4, (1e10, 3e10, 1e11), best=10.0)
    analysis = analyse(results)
    assert isinstance(analysis.comparisons[0].multiplier, Refusal)
    text = " ".join(not_supported(analysis))
    assert "masked against ar: the compute multiplier is refused" in text and "do not overlap" in text

    edge = sweep("ar", 1.0, (1e10, 3e10, 1e11), bound="exact") + sweep("masked", 4.0, (1e10, 3e10), best=30.0)
    text = " ".join(not_supported(analyse(edge)))
    assert "masked at 1e10 FLOPs: the minimum is at the edge of the grid (4.14k to 111k parameters)" in text
    assert "0 of 2 budgets" in text
    assert "refused" in write_report(edge, tmp_path, "Edge").read_text()


def test_mixed_counters_name_the_run():
    results = quickstart()
    results[7] = results[7]._replace(budget_counter="six_total")
    results[30] = results[30]._replace(budget=0.0)
    analysis = analyse(results, problems=["runs/x/result.json: not whole JSON"])
    assert len(analysis.runs["ar"]) == 19
    assert analysis.left_out == [
        "runs/x/result.json: not whole JSON",
        f"{results[7].run_id}: its budget is counted in six_total, the others in exact",
        f"{results[30].run_id}: it was given steps, not a budget",
    ]


def test_a_loss_that_bounds_nothing_is_compared_with_nothing():
    results = quickstart() + sweep("masked_lm", 2.0, (3e10, 1e11, 3e11), bound="none", seed=3)
    analysis = analyse(results)
    assert all("masked_lm" not in (c.reference, c.other) for c in analysis.comparisons)
    assert any("masked_lm: its loss bounds no likelihood" in sentence for sentence in not_supported(analysis))
    shared_axis, own_axis = loss_against_flops(analysis).axes
    assert "bounds no likelihood" in own_axis.get_legend().get_title().get_text()
    labels = [text.get_text() for text in shared_axis.get_legend().get_texts()]
    assert labels and not any("masked_lm" in label for label in labels)
    limits = {axis.get_title(): axis.get_ylim() for axis in isoflops(analysis).axes}
    assert limits["ar"] == limits["any_order"] == limits["masked"] != limits["masked_lm (own axis)"]


def test_seeds_are_places_of_one_curve():
    results = [run._replace(seed=seed) for seed in (0, 1) for run in quickstart()]
    analysis = analyse(results)
    assert len(analysis.minima["ar"][0][0].loss) == 2 * len(SIZES)
    assert isinstance(analysis.comparisons[0].multiplier, Multiplier)
    assert not any("One seed" in sentence for sentence in not_supported(analysis))


def test_only_failures_still_make_a_report(tmp_path):
    results = [failed(run, "out of memory") for run in quickstart()[:2]]
    page = write_report(results, tmp_path, "Nothing").read_text()
    assert "No run is done" in page and page.count("out of memory") == 2
    with pytest.raises(UserError, match="no results"):
        write_report([], tmp_path, "Nothing")


def test_the_same_results_give_the_same_bytes(tmp_path):
    results = quickstart()[:20]
    pages = [write_report(results, tmp_path / name, "Twice").read_bytes() for name in "ab"]
    assert pages[0] == pages[1]


def test_a_learning_curve_is_binned(tmp_path):
    paths = write_metrics(tmp_path, quickstart()[:1])
    flops, loss = learning_curve(next(iter(paths.values())))
    assert len(flops) == len(loss) <= 151
    assert np.all(np.diff(flops) > 0)
    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    assert learning_curve(empty) is None
