"""The tables of docs/theory/experiments.md, and figures of the guide on fits, match the stored results."""

import functools
import json
import pathlib
from collections import defaultdict

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from experiments import branches, gradient_noise, transfer
from experiments.conversion import KNOWN, KNOWN_DRAWS
from experiments.conversion_results import decoding_table, differences, starts_table, table
from mdlm_jax.laws import interval, surface_multiplier
from mdlm_jax.laws.design import common_losses
from mdlm_jax.report import kept_fits
from mdlm_jax.report.analysis import analyse
from mdlm_jax.report.equal_compute import equal_compute
from mdlm_jax.report.figures import render
from mdlm_jax.report.repeated import repeated
from mdlm_jax.report.shared_cost import shared_cost
from mdlm_jax.report.stored import read_stored
from mdlm_jax.report.tight import under_likelihoods

ROOT = pathlib.Path(__file__).parents[1]


@functools.cache
def page():
    return (ROOT / "docs" / "theory" / "experiments.md").read_text(encoding="utf-8")


def results_of(name):
    results, problems = read_stored(ROOT / "experiments" / "results" / name / "results.json")
    assert not problems and f"{len(results)} runs" in page()
    return results


def test_compute_multipliers_and_exponents():
    analysis = analyse(results_of("isoflop_small"))
    names = {("ar", "any_order"): "any-order over AR", ("ar", "masked"): "masked over AR"}
    for comparison in analysis.comparisons:
        value = comparison.multiplier
        name = names.get((comparison.reference, comparison.other), "must cover 1")
        text = f"{name} | {value.mean:.3g} [{value.mean_low:.3g}, {value.mean_high:.3g}]"
        losses = "" if comparison.control else f", over {value.loss[0]:.2f} to {value.loss[-1]:.2f} nats"
        assert text + losses in page(), text + losses
    for name, best in analysis.optima.items():
        row = f"| {name} |"
        for what in ("loss", "parameters", "tokens"):
            low, high = interval(getattr(best.sample, f"{what}_exponent"))
            row += f" {getattr(best, f'{what}_law').exponent:.3f} [{low:.3f}, {high:.3f}] |"
        assert row in page(), row
    assert all(len(best.budgets) == 4 for best in analysis.optima.values())  # all 12 minima are interior


def test_noise_of_gradients():
    rows = gradient_noise.shares(json.loads(gradient_noise.RESULTS.read_text(encoding="utf-8"))["measured"])
    assert len(rows) == 20
    for one in rows:
        numbers = f"{one['scale']:.0f} | {one['of_rows']:.0f} | {one['noise_share']:.1%}"
        assert f"| {one['objective']} | {one['density']} | {numbers} |" in page(), numbers


def test_quality_of_drawn_digits():
    stored = json.loads((ROOT / "experiments" / "results" / "digit_quality.json").read_text(encoding="utf-8"))
    text = (ROOT / "docs" / "theory" / "text-and-images.md").read_text(encoding="utf-8")
    for evaluations, one in stored["drawn"].items():
        accuracy = f"{one['accuracy']:.3f} ± {one['standard_error']:.3f}"
        line = f"| {evaluations} | {accuracy} | {one['frechet']:.2f} | {one['seconds_of_64']['median']:.2f} |"
        assert line in text, line


def test_laws_of_branches():
    folder = ROOT / "experiments" / "results" / "branches"
    kept = json.loads((folder / "compared.json").read_text(encoding="utf-8"))
    stored = {name: read_stored(folder / f"{name.replace(' ', '_')}.json")[0] for name in branches.SWEEPS}
    again = branches.compared(stored)
    for name in ("laws", "minima"):
        for one, other in zip(kept[name], again[name], strict=True):
            assert one == pytest.approx(other)
    assert kept["flops"] == pytest.approx(again["flops"])
    for one, other in zip(kept["differences"], again["differences"], strict=True):
        assert one == pytest.approx(other)
    assert shared_cost(stored["branches"], "exact").sentence in page()
    for row in branches.rows(kept):
        assert row in page(), row
    for found in kept["differences"]:
        assert f"{found['mean']:+.3f} [{found['low']:+.3f}, {found['high']:+.3f}]" in page()


def test_losses_of_repeated_data():
    results = results_of("data_constrained")
    losses = defaultdict(lambda: defaultdict(list))
    for run in results:
        losses[run.objective, run.parameters_non_embedding][round(run.epochs)].append(run.loss)
    means = {key: {epochs: np.mean(one) for epochs, one in curve.items()} for key, curve in losses.items()}
    for size in sorted({size for _, size in means}):
        ar, masked = means["ar", size], means["masked", size]
        best = min(ar, key=ar.get)
        below = [epochs for epochs in ar if all(masked[later] < ar[later] for later in ar if later >= epochs)]
        told = f"{min(below)} epochs" if below else "not within 64 epochs"
        row = f"| {size:,} | {ar[best]:.3f} after {best} | {ar[64]:.3f} | {masked[64]:.3f} | {told} |"
        assert row in page(), row
    (found,), _ = repeated(results)
    (overtaking,) = found.overtakings
    assert overtaking.crossing.epochs == np.inf == overtaking.crossing.high
    assert f"its interval is {overtaking.crossing.low:.0f} to beyond 64" in page()


def test_losses_at_equal_compute():
    (cell,) = equal_compute(results_of("objectives"))
    differences = {difference.other: difference.value for difference in cell.differences}
    for name, mean in cell.means.items():
        row = f"| `{name}` | {mean.mean:.3f} [{mean.low:.3f}, {mean.high:.3f}] |"
        if name in differences:
            value = differences[name]
            row += f" {value.mean:+.3f} [{value.low:+.3f}, {value.high:+.3f}] |"
        assert row in page(), row


def test_losses_of_densities():
    results = results_of("densities")
    for base in ("masked", "masked_plain"):
        cells = equal_compute([run for run in results if run.objective.split("-")[0] == base])
        budgets = sorted({run.budget for run in results})
        losses = {name: [cell.means[name].mean for cell in reversed(cells)] for name in cells[0].means}
        differences = {one.other: one.value for one in cells[1].differences}
        for name, values in losses.items():
            row = f"| `{base}`, {name.removeprefix(base).removeprefix('-') or 'uniform'} |"
            row += "".join(f" {value:.3f} |" for value in values)
            if name in differences:
                value = differences[name]
                row += f" {value.mean:+.3f} [{value.low:+.3f}, {value.high:+.3f}] |"
                needed = np.exp(np.interp(-losses[base][-1], -np.array(values), np.log(budgets)))
                fewer = f"{budgets[-1] / needed:.1f} times" if values[-1] < losses[base][-1] else "more than 1e11 FLOPs"
                row += f" {fewer} |"
            assert row in page(), row


def test_tables_of_conversion():
    whole = json.loads((ROOT / "experiments" / "results" / "conversion" / "results.json").read_text())
    for line in (*starts_table(whole), *table(whole), *decoding_table(whole)):
        assert line in page(), line
    for name, mean in differences(whole, "dream").items():
        assert mean.shown("+") in page(), name
    tokens, ar = whole["held_out"]["tokens_per_row"], np.array(whole["ar_row_nats"])
    for name, points in whole["points"].items():
        above = (np.array(points[-1]["row_nats"]) - ar) / tokens
        low, high = ttest_1samp(above, 0).confidence_interval()
        if points[-1]["tokens"]:
            assert f" {above.mean():+.2f} [{low:+.2f}, {high:+.2f}] |" in page(), name


def test_conversion_starts_where_it_is_known():
    """Another code measured one draw of what is the mean of several here."""
    whole = json.loads((ROOT / "experiments" / "results" / "conversion" / "results.json").read_text())
    assert len(whole["starts"]) == len(KNOWN)
    for row in whole["starts"]:
        of_one_draw = row["error"] * np.sqrt(KNOWN_DRAWS)
        assert abs(row["nats"] - row["known"]) < 2 * np.hypot(of_one_draw, row["error"]), row


@pytest.mark.slow
def test_multiplier_by_two_counters():
    """The least compute of each surface for a loss, over sizes: in 6 N D, and with the head and attention."""
    results = results_of("isoflop_small")
    fits = {name: kept.fitted for name, kept in kept_fits(analyse(results, []), 100).items()}
    reference, other = fits["ar"], fits["masked"]
    of_size = {
        run.parameters_non_embedding: run.flops["exact"] / (6 * run.parameters_non_embedding * run.tokens)
        for run in results
    }
    known = np.array(sorted(of_size.items())).T
    sizes = np.geomspace(known[0, 0], known[0, -1], 4000)

    def least(fitted, loss, counter):
        log_e, log_a, log_b, alpha, beta = fitted.coordinates
        gap = loss - np.exp(log_e) - np.exp(log_a) * sizes**-alpha
        tokens = (np.exp(log_b) / gap[gap > 0]) ** (1 / beta)
        return ((6 * sizes * counter)[gap > 0] * tokens).min()

    def multiplier(counter):
        losses = common_losses((reference, other))
        return np.exp(np.mean([np.log(least(other, at, counter) / least(reference, at, counter)) for at in losses]))

    exact = np.exp(np.interp(np.log(sizes), np.log(known[0]), np.log(known[1])))
    found = surface_multiplier(reference, other)
    assert multiplier(1.0) == pytest.approx(found.mean, rel=1e-4)
    guide = " ".join((ROOT / "docs" / "how-to" / "fitting.md").read_text(encoding="utf-8").split())
    assert f"{found.mean:.0f} [{found.low:.0f}, {found.high:.0f}] in 6 N D" in guide
    assert f"The same two surfaces give {multiplier(exact):.0f}" in guide
    assert f"{min(of_size.values()):.1f} to {max(of_size.values()):.1f} times 6 N D" in guide


@pytest.mark.parametrize(
    ("module", "file", "panels"), [(branches, "branches/compared.json", 2), (transfer, "transfer.json", 3)]
)
def test_figures_of_experiments(module, file, panels):
    """They are drawn from the stored results."""
    kept = json.loads((ROOT / "experiments" / "results" / file).read_text(encoding="utf-8"))
    specified = render.specification(module.figure(kept))
    svg, png = render.files(specified)
    assert len(specified["concat"]) == panels and svg.count("<path") > 10 * panels and png.startswith(b"\x89PNG")


def test_best_rates_of_transfer():
    """The factors and losses that the page on transfer tells are those of the stored curves."""
    told = (ROOT / "docs" / "theory" / "transfer.md").read_text(encoding="utf-8").replace("\n", " ")
    kept = json.loads((ROOT / "experiments" / "results" / "transfer.json").read_text(encoding="utf-8"))
    names, moved, lowest = ("standard", "mup", "completep"), [], []
    for name in names:
        curves = [curve for curve in kept["curves"] if curve["parametrization"] == name]
        best = []
        for curve in curves:
            at = int(np.argmin(curve["losses"]))
            fit = np.polyfit((-1, 0, 1), curve["losses"][at - 1 : at + 2], 2)
            best.append(kept["rates"][at] * 2 ** (-fit[1] / (2 * fit[0])))
            assert curve["optimum"] == pytest.approx(best[-1])
            assert transfer.optimum(curve["losses"]) == pytest.approx(best[-1])
        moved.append(max(best) / min(best))
        lowest.append(min(curves[-1]["losses"]))
    assert f"factor of {moved[0]:.2f} in the standard network, {moved[1]:.2f} under `mup` and {moved[2]:.2f}" in told
    assert f"reaches {lowest[0]:.3f}, {lowest[1]:.3f} and {lowest[2]:.3f} nats" in told
    assert max(moved[1:]) < 1.5 < moved[0]


def test_forms():
    stored = json.loads((ROOT / "experiments/results/forms_isoflop_small.json").read_text())["forms"]
    text = (ROOT / "docs/how-to/fitting.md").read_text()
    better = total = 0
    for objective, found in stored.items():
        for name, form in found.items():
            fitted = not isinstance(form, str)
            known = fitted and not isinstance(form["left_out"], str)
            left = ", ".join(f"{100 * error:.2f}" for error in form["left_out"]["error"]) if known else "not determined"
            row = f"{100 * form['error']:.2f} | {left}" if fitted else " | no fit"
            assert f"| {objective} | {name} | {row.strip()} |".replace("|  |", "| |") in text
        pairs = zip(*(found[name]["left_out"]["error"] for name in ("kaplan", "chinchilla")), strict=True)
        wins = [kaplan < chinchilla for kaplan, chinchilla in pairs]
        better, total = better + sum(wins), total + len(wins)
    assert better == total - 1 and "predicts every budget but one better" in text


def test_likelihoods():
    results = results_of("likelihoods")
    found = under_likelihoods(results, analyse(results))
    assert len(found) == 8
    for one in found:
        value = one.multiplier
        shown = f"{value.mean:.3g} [{value.mean_low:.3g}, {value.mean_high:.3g}]"
        assert f"| {one.other} | {one.likelihood} | {shown} |" in page()
    training, orders = (
        one.multiplier.mean for one in found if one.other == "masked" and "decoded" not in one.likelihood
    )
    assert f"{orders:.1f} times the compute of AR instead of {training:.1f}" in page() and 0.7 < orders / training < 0.8
    assert all(run.likelihoods["orders"]["nats_per_token"] < run.loss for run in results if run.bound == "upper")
