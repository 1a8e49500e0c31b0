"""The README's code runs, and the quickstart's figures match its stored results."""

import functools
import pathlib
import re

from mdlm_jax.report.analysis import analyse
from mdlm_jax.runs.result import read_results

ROOT = pathlib.Path(__file__).parents[1]


@functools.cache
def readme():
    return (ROOT / "README.md").read_text(encoding="utf-8")


@functools.cache
def first_run():
    return (ROOT / "docs" / "start" / "first-run.md").read_text(encoding="utf-8")


def test_first_python_block_trains(monkeypatch):
    monkeypatch.chdir(ROOT)
    block = re.search(r"```python\n(.*?)```", readme(), re.DOTALL).group(1)
    names = {}
    exec(block, names)
    assert 5 < float(names["metrics"]["loss"]) < 6  # near ln 257 at the first step


def test_figures_match_stored_results():
    results, problems = read_results(sorted((ROOT / "experiments" / "results" / "quickstart").iterdir()))
    analysis = analyse(results, problems)
    for name, best in analysis.optima.items():
        rows = zip(best.budgets, best.loss, best.parameters, strict=True)
        for budget, loss, parameters in rows:
            row = f"| `{name}` | {budget:.2g} | {loss:.3f} | {parameters:,.0f} |".replace("e+0", "e").replace("e+", "e")
            assert row in first_run(), row
    for comparison in analysis.comparisons:
        value = comparison.multiplier
        text = f"{value.mean:.3g} [{value.mean_low:.3g}, {value.mean_high:.3g}]"
        assert text in readme(), (comparison.reference, comparison.other, text)


def test_no_link_is_broken():
    for target in re.findall(r"\]\(([^)#]+)\)", readme()):
        assert (ROOT / target).exists(), target
