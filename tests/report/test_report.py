import html.parser
import re
from pathlib import Path

import numpy as np
import pytest

from mdlm_jax.errors import UserError
from mdlm_jax.laws import Multiplier, Refusal
from mdlm_jax.report.analysis import analyse
from mdlm_jax.report.curves import curves_frontier, learning_curve
from mdlm_jax.report.figures.compute import loss_against_flops
from mdlm_jax.report.figures.isoflop import isoflops
from mdlm_jax.report.page import write_report
from mdlm_jax.report.parametric_fits import kept_fits
from mdlm_jax.report.study import make_study
from mdlm_jax.report.table import headings, rows
from mdlm_jax.report.text.findings import laws, not_supported, supported
from mdlm_jax.report.text.weaknesses import warnings
from mdlm_jax.style import number
from tests.synthetic import SIZES, failed, quickstart, sweep, write_runs

FIGURES = [
    *(
        "compute_multiplier",
        "held_out",
        "extrapolation",
        "isoflops",
        "learning_curves",
        "loss_against_flops",
        "optimal_sizes",
    ),
    *("surface_profiles", "surface_residuals"),
]


def test_report_opens_offline(tmp_path):
    results = quickstart()
    results[3] = failed(results[3], "loss is NaN at step 12, <learning rate> 0.1")
    folders = write_runs(tmp_path / "runs", results)
    path = write_report(results, tmp_path / "report", "Quickstart", runs=folders)
    page = path.read_text()
    pictures = {f"{name}.{kind}" for name in FIGURES for kind in ("png", "svg")}
    assert {file.name for file in path.parent.iterdir()} == {"report.html"} | pictures
    markup = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    linked = set(re.findall(r"""(?:src|href)\s*=\s*["']([^"'#]+)""", markup))
    configs = {f"../runs/{run.run_id}/config.json" for run in results}
    assert linked == pictures | configs
    assert all((path.parent / target).exists() for target in linked)
    assert not re.search(r"url\(|@import", markup)
    assert "failed: loss is NaN at step 12, &lt;learning rate&gt; 0.1" in markup
    assert (markup.count("<tr>"), markup.count('<tr class="failed">')) == (len(results), 1)  # one of them a heading
    html.parser.HTMLParser().feed(page)


def test_multipliers_and_control():
    analysis = analyse(quickstart())
    masked = {(c.reference, c.other): c for c in analysis.comparisons}
    assert set(masked) == {("ar", "any_order"), ("ar", "masked"), ("any_order", "masked")}
    for comparison in masked.values():
        truth = 1.0 if comparison.control else 4.0
        for found in (comparison.multiplier, comparison.with_floor.multiplier):
            assert found.mean_low < truth < found.mean_high
    assert masked["any_order", "masked"].control
    text = " ".join(supported(analysis) + laws(analysis))
    assert "masked needs 3.97 times the compute of ar" in text
    assert text.count("With an irreducible loss") == 2 and "times that of the power law" in text
    assert "must cover 1" in text and "passed" in text
    assert "N* ∝ C^" in text and "FLOPs (counted exactly)" in text


def test_failed_control():
    results = sweep("any_order", 1.0, (1e10, 1e11, 1e12), seed=1) + sweep("masked", 2.0, (1e10, 1e11, 1e12), seed=2)
    analysis = analyse(results)
    assert [c.control for c in analysis.comparisons] == [True]
    assert any("FAILED" in sentence for sentence in not_supported(analysis))


def test_refusals(tmp_path):
    results = sweep("ar", 1.0, (1e10, 3e10, 1e11), bound="exact") + sweep("masked", 1e4, (1e10, 3e10, 1e11), best=10.0)
    analysis = analyse(results)
    assert isinstance(analysis.comparisons[0].multiplier, Refusal)
    text = " ".join(not_supported(analysis))
    assert "masked against ar: there is no compute multiplier, because the losses" in text and "do not overlap" in text

    edge = sweep("ar", 1.0, (1e10, 3e10, 1e11), bound="exact") + sweep("masked", 4.0, (1e10, 3e10), best=30.0)
    text = " ".join(not_supported(analyse(edge)) + warnings(analyse(edge)))
    assert "masked at 1e10 FLOPs: the minimum is at the edge of the grid (4.14k to 111k parameters)" in text
    assert "0 of 2 budgets" in text
    assert "there is no compute multiplier" in write_report(edge, tmp_path, "Edge").read_text()


def test_mixed_counters():
    results = quickstart()
    results[7] = results[7]._replace(budget_counter="six_total")
    results[30] = results[30]._replace(budget=0.0)
    analysis = analyse(results, problems=["runs/x/result.json: not whole JSON"])
    assert len(analysis.runs["ar"]) == 19
    assert analysis.left_out == [
        "runs/x/result.json: not whole JSON",
        f"{results[7].run_id}: its budget is counted in six_total, the others in exact",
    ]
    assert analysis.by_steps == [results[30]]


def test_mixed_bounds():
    """The runs of an objective whose kind of loss differs from that of its first run are named."""
    results = quickstart()
    odd = results[8]._replace(bound="none")
    analysis = analyse([*results[:8], odd, *results[9:]])
    assert odd not in analysis.runs["ar"] and len(analysis.runs["ar"]) == 19
    assert analysis.left_out == [f"{odd.run_id}: its loss is 'none', that of the other ar runs 'exact'"]


def test_loss_without_a_bound():
    results = quickstart() + sweep("masked_lm", 2.0, (3e10, 1e11, 3e11), bound="none", seed=3)
    analysis = analyse(results)
    assert all("masked_lm" not in (c.reference, c.other) for c in analysis.comparisons)
    assert any("masked_lm: its loss bounds no likelihood" in sentence for sentence in not_supported(analysis))
    shared_panel, own_panel = loss_against_flops(analysis).chart["concat"]
    domains = [panel["layer"][0]["encoding"]["color"]["scale"]["domain"] for panel in (shared_panel, own_panel)]
    assert domains == [["ar", "any_order", "masked"], ["masked_lm"]] and "own axis" in own_panel["title"]
    panels = isoflops(analysis).chart["concat"]
    limits = {panel["title"]: panel["layer"][0]["encoding"]["y"]["scale"]["domain"] for panel in panels}
    own = limits.pop("masked_lm (bounds no likelihood: its own axis)")
    assert limits["ar"] == limits["any_order"] == limits["masked"] != own


def test_seeds_share_one_parabola():
    results = [run._replace(seed=seed) for seed in (0, 1) for run in quickstart()]
    analysis = analyse(results)
    assert len(analysis.minima["ar"][0][0].loss) == 2 * len(SIZES)
    assert isinstance(analysis.comparisons[0].multiplier, Multiplier)
    assert any("one seed" in sentence for sentence in warnings(analyse(quickstart())))
    assert not any("one seed" in sentence for sentence in warnings(analysis))


def test_inherited_compute():
    """A run that continues another counts with the FLOPs and tokens of both."""
    (run,) = [run for run in quickstart() if run.run_id == "ar-12k-1e10"]
    flops, tokens = {name: 1.5 * count for name, count in run.flops.items()}, 3 * run.tokens // 2
    inherited = {name: 0.5 * count for name, count in run.flops.items()}
    changed = {"flops": flops, "tokens": tokens, "inherited_flops": inherited, "inherited_tokens": run.tokens // 2}
    for kinship, budget in (("weights", run.budget + inherited["exact"]), ("branch", run.budget)):
        child = run._replace(parent="ar-4k", kinship=kinship, birth_step=40, run_id="child", **changed)
        analysis = analyse([run, child])
        assert [mine.budget for mine in analysis.runs["ar"]] == sorted([run.budget, budget])
        curves = [curve for curve, _ in analysis.minima["ar"]]
        assert max(curve.tokens.max() for curve in curves) == tokens
        (found,) = [row for row in rows(make_study([run, child], [], {}), {}, Path()) if row.cells[0].text == "child"]
        assert found.cells[-1].text == f"ar-4k from step 40 ({kinship}, {number(run.tokens // 2)} tokens)"


def test_fits_count_inherited_compute():
    """Runs that inherit half of their FLOPs and tokens give the fits of runs from scratch with the same totals."""
    scratch = quickstart()
    children = []
    for number_of_run, run in enumerate(scratch):
        halves = {name: count / 2 for name, count in run.flops.items()} | {"exact": run.budget / 2}
        kinship, own = (("weights", run.budget / 2), ("branch", run.budget))[number_of_run % 2]
        changed = {"budget": own, "inherited_flops": halves, "inherited_tokens": run.tokens // 2}
        children.append(run._replace(parent="parent", kinship=kinship, birth_step=10, **changed))
    first, second = analyse(scratch), analyse(children)
    np.testing.assert_equal(first.minima, second.minima)
    np.testing.assert_equal(first.optima, second.optima)
    np.testing.assert_equal(first.comparisons, second.comparisons)
    for name, kept in kept_fits(first, 3).items():
        np.testing.assert_equal(kept, kept_fits(second, 3)[name])


def test_frontier_of_costlier_parents():
    """Each parent spent 100 FLOPs a token, each child 50: at its end a child has the tokens of both."""
    runs = [run for run in quickstart() if run.run_id.endswith("-1e10") and run.objective == "ar"]
    curves, children = {}, []
    for at, run in enumerate(runs):
        counts = {"flops": {"exact": 15_000.0}, "tokens": 200, "inherited_tokens": 100}
        children.append(run._replace(kinship="weights", inherited_flops={"exact": 10_000.0}, **counts))
        curves[run.run_id] = (np.linspace(10_050.0, 15_000.0, 100), np.linspace(3.0, 2.0, 100) + at)
    found = curves_frontier(children, curves, "exact")
    np.testing.assert_allclose(found.tokens, 100 + (found.flops - 10_000) / 50, rtol=1e-3)


def test_only_failures(tmp_path):
    results = [failed(run, "out of memory") for run in quickstart()[:2]]
    page = write_report(results, tmp_path, "Nothing").read_text()
    assert "No run is done" in page and page.count("out of memory") == 2
    with pytest.raises(UserError, match="no results"):
        write_report([], tmp_path, "Nothing")


@pytest.mark.slow
def test_same_bytes(tmp_path):
    results = quickstart()[:20]
    pages = [write_report(results, tmp_path / name, "Twice").read_bytes() for name in "ab"]
    assert pages[0] == pages[1]


def test_learning_curve(tmp_path):
    (folder,) = write_runs(tmp_path, quickstart()[:1]).values()
    flops, loss = learning_curve(folder / "metrics.jsonl")
    assert len(flops) == len(loss) <= 151
    assert np.all(np.diff(flops) > 0)
    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    assert learning_curve(empty) is None


@pytest.mark.slow
def test_500_runs(tmp_path):
    results = [
        run._replace(seed=seed, run_id=f"{run.run_id}-seed{seed}")
        for name in ("ar", "any_order", "masked", "gidd", "sedd")
        for seed in range(5)
        for run in sweep(name, 1.0, (1e10, 3e10, 1e11, 3e11), seed=seed)
    ]
    assert len(results) == 500
    page = write_report(results, tmp_path / "report", "500 runs", runs=write_runs(tmp_path / "runs", results))
    assert page.stat().st_size < 8e6


def test_table_has_one_count_of_flops():
    """That of the budgets; the cell names all four. Parents have a column only where a run continues another."""
    runs = quickstart()
    study = make_study(runs, [], {})
    shown = headings(study)
    assert [name for name in shown if name.startswith("FLOPs")] == ["FLOPs, counted exactly"]
    for row in rows(study, {}, Path()):
        (run,) = [run for run in runs if run.run_id == row.cells[0].text]
        cell = row.cells[shown.index("FLOPs, counted exactly")]
        assert len(row.cells) == len(shown) and cell.value == run.flops["exact"]
        assert cell.more.count(";") == 3 and f"6ND with embeddings: {number(run.flops['six_total'])}" in cell.more
    child = runs[0]._replace(run_id="child", parent=runs[0].run_id, kinship="branch")
    assert headings(make_study([*runs, child], [], {})) == [*shown, "continues"]
