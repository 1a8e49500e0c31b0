"""One HTML file that opens offline, and each of its figures as PNG and SVG beside it."""

import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from altair.utils.schemapi import debug_mode

from mdlm_jax.errors import UserError
from mdlm_jax.files import write_whole
from mdlm_jax.report.figures import render
from mdlm_jax.report.figures.charts import WIDTH, Figure
from mdlm_jax.report.figures.compute import loss_against_flops, multipliers
from mdlm_jax.report.figures.curves import learning_curves
from mdlm_jax.report.figures.epochs import epochs
from mdlm_jax.report.figures.equal_compute import equal
from mdlm_jax.report.figures.isoflop import isoflops
from mdlm_jax.report.figures.optima import optimal_sizes
from mdlm_jax.report.figures.parametric_fits import extrapolation, held_out, profiles, residuals
from mdlm_jax.report.figures.samples import speed_and_quality
from mdlm_jax.report.figures.tight import multipliers_under
from mdlm_jax.report.study import Study, make_study
from mdlm_jax.report.table import headings, rows
from mdlm_jax.report.template import rendered
from mdlm_jax.report.text import comparisons, findings
from mdlm_jax.report.text.fits import fits
from mdlm_jax.report.text.methods import methods
from mdlm_jax.report.text.weaknesses import warnings
from mdlm_jax.runs.result import Result
from mdlm_jax.runs.say import doing

REPORT_NAME = "report.html"


def figures(study: Study) -> Iterator[Figure | None]:
    """In the order of the page, None where the data is not there; the first one is what was found.

    One after another, so that each can be drawn while the next is put together.
    """
    yield multipliers(study.analysis)
    yield multipliers_under(study.tight, study.analysis)
    yield from epochs(study.repeated)
    yield loss_against_flops(study.analysis)
    yield isoflops(study.analysis)
    yield optimal_sizes(study.analysis)
    yield equal(study.cells)
    yield residuals(study)
    yield profiles(study)
    yield held_out(study)
    yield extrapolation(study)
    yield learning_curves(study)
    yield speed_and_quality(study.samples)


def found(study: Study) -> list[str]:
    """What the first screen says was found."""
    sentences = findings.supported(study.analysis)
    sentences += [sentence for one in study.repeated for sentence in comparisons.overtakings(one)]
    if sentences:
        return sentences
    sentences = [sentence for cell in study.cells for sentence in comparisons.differences(cell)]
    return sentences or findings.laws(study.analysis)


@doing("drawing the report", one_process=True)
def write_report(
    results: Sequence[Result],
    folder: str | os.PathLike,
    title: str,
    problems: Sequence[str] = (),
    runs: Mapping[str, pathlib.Path] | None = None,
) -> pathlib.Path:
    """Writes report.html into `folder`, with a PNG and an SVG of each figure, and returns its path.

    `problems` are lines about runs without a readable result; `runs` are folders by run id, for learning
    curves, samples and configs. Raises UserError where there is nothing to report, or it cannot be written.
    """
    if not results and not problems:
        raise UserError(f"{folder}: no results to report; run the sweep first")
    folder, runs = pathlib.Path(folder), runs or {}
    with ThreadPoolExecutor() as pool:
        code = pool.submit(render.drawing_code)
        study = make_study(results, problems, runs)
        shown, embedded, files = [], {}, {}
        with debug_mode(False):  # every part of a chart would be checked against the schema, again in what holds it
            for figure in filter(None, figures(study)):
                specified = render.specification(figure.chart)
                shown.append(figure)
                embedded[figure.name] = render.embedded(specified)
                files[figure.name] = pool.submit(render.files, specified)
    refused = [] if any(figure.name == "surface_residuals" for figure in shown) else fits(study.parametric_fits)
    html = rendered(
        "page.html",
        files_beside=True,
        title=title,
        found=found(study),
        not_supported=findings.not_supported(study.analysis) + refused,
        warnings=warnings(study.analysis),
        figures=shown,
        row_width=WIDTH,
        embedded=embedded,
        code=code.result() if shown else "",
        headings=headings(study),
        rows=rows(study, runs, folder.resolve()),
        left_out=study.analysis.left_out,
        methods=methods(study),
    )
    path = folder / REPORT_NAME
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, drawn in files.items():
            svg, png = drawn.result()
            write_whole(folder / f"{name}.svg", svg)
            write_whole(folder / f"{name}.png", png)
        write_whole(path, html)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror}); accepted: a folder to write to") from error
    return path
