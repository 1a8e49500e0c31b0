"""The page in a browser without a network: every figure is drawn, nothing complains or is fetched, the table sorts."""

import json

import pytest

from mdlm_jax.report.page import write_report
from tests.browser import WINDOW, drive, dump, result_of
from tests.synthetic import equal, failed, quickstart, repeated, samples, write_runs

DRIVE = """<script>
setTimeout(() => {
  const column = heading => [...document.querySelectorAll("#runs th")].findIndex(th => th.innerText === heading);
  const shown = at => [...document.querySelectorAll("#runs tbody tr")].map(row => row.cells[at].textContent);
  const sorted = heading => {
    const button = document.querySelectorAll("#runs th button")[column(heading)];
    return [0, 1].map(() => { button.click(); return shown(column(heading)); });
  };
  const result = document.createElement("pre");
  result.id = "result";
  result.textContent = JSON.stringify({
    drawn: [...document.querySelectorAll(".chart")].map(chart => [
      chart.id, chart.querySelectorAll("svg path, svg rect").length, chart.querySelector("svg").width.baseVal.value]),
    D: sorted("D"), objective: sorted("objective"), loss: sorted("loss (nats)"),
    width: document.documentElement.scrollWidth, window: innerWidth,
    wide: [...document.querySelectorAll("figure.wide")].map(figure => figure.querySelector(".chart").id),
    seen: [...document.querySelectorAll("#runs th")].filter(th => th.getBoundingClientRect().right <= innerWidth)
      .map(th => th.innerText),
    titles: [...document.querySelectorAll("h2")].map(heading => heading.innerText)
      .filter(title => [...document.querySelectorAll("svg text")].some(text => text.textContent === title)),
    requests: performance.getEntriesByType("resource").map(entry => entry.name),
    wrong,
  });
  document.body.append(result);
}, 6000);
</script>"""


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """Results with something for every figure, the names of those in the page, and what the browser says of it."""
    folder = tmp_path_factory.mktemp("report")
    results = quickstart() + repeated(seeds=(0, 1), noise=0.003)
    results += [run._replace(budget=0.0) for run in equal()]
    results[3] = failed(results[3], "</script> loss is NaN")
    folders = write_runs(folder / "runs", quickstart())
    (folders["masked-12k-1e11"] / "samples.json").write_text(json.dumps(samples()))
    page = write_report(results, folder / "report", "Everything </title>", runs=folders)
    text = page.read_text(encoding="utf-8")
    assert text.count("</script>") == text.count("<script")
    drive(page, DRIVE)
    dom, console = dump(page, folder, milliseconds=9000)
    return results, result_of(dom), console, page


@pytest.fixture(scope="module")
def narrow(shown, tmp_path_factory):
    """The same page on a narrow screen."""
    folder = tmp_path_factory.mktemp("narrow")
    dom, console = dump(shown[3], folder, milliseconds=9000, window=(500, 900))
    return result_of(dom), console


@pytest.mark.slow
def test_narrow_page(narrow):
    """Panels stand below each other, and neither the page nor a figure scrolls sideways."""
    found, console = narrow
    assert (console, found["wrong"], found["wide"]) == ([], [], [])
    assert found["window"] == 500 and found["width"] <= 500
    assert all(width <= 480 for _, _, width in found["drawn"])


@pytest.mark.slow
def test_loss_and_status_are_visible(shown):
    """They stand beside the run's name without scrolling, and no title appears twice."""
    seen = shown[1]["seen"]
    assert seen[:3] == ["run", "status", "loss (nats)"] and "D" in seen
    assert shown[1]["titles"] == []


@pytest.mark.slow
def test_every_figure_is_drawn_and_fits(shown):
    _, told, *_ = shown
    names = {name for name, _, _ in told["drawn"]}
    assert names == {
        *("compute_multiplier", "epochs_65536", "equal_compute", "extrapolation", "held_out", "isoflops"),
        *("learning_curves", "loss_against_flops", "optimal_sizes", "speed_quality", "surface_profiles"),
        "surface_residuals",
    }
    assert all(marks > 10 for _, marks, _ in told["drawn"])
    assert {name: width for name, _, width in told["drawn"] if width > 1100} == {}
    assert told["width"] <= WINDOW[0]


@pytest.mark.slow
def test_page_has_no_errors_or_requests(shown):
    _, told, console, _ = shown
    assert (console, told["wrong"], told["requests"]) == ([], [], [])


@pytest.mark.slow
def test_clicking_a_heading_sorts(shown):
    results, told, *_ = shown
    tokens = [f"{run.tokens:,}" for run in sorted(results, key=lambda run: run.tokens)]
    assert told["D"] == [tokens, tokens[::-1]]
    assert told["objective"] == [sorted(run.objective for run in results)] + [
        sorted((run.objective for run in results), reverse=True)
    ]
    losses = sorted(run.loss for run in results if run.loss is not None)
    assert told["loss"][0] == [f"{loss:.4f}" for loss in losses] + [""]
