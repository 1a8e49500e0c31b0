"""From results to an HTML report: analyses of the results, and their figures and sentences."""

from mdlm_jax.costs.counters import COUNTERS
from mdlm_jax.report.analysis import Analysis, analyse
from mdlm_jax.report.equal_compute import equal_compute
from mdlm_jax.report.figures import charts, render
from mdlm_jax.report.figures.compute import loss_against_flops, multipliers
from mdlm_jax.report.figures.isoflop import isoflops
from mdlm_jax.report.page import write_report
from mdlm_jax.report.parametric_fits import audits_of, forms_of, kept_fits, parametric_fits
from mdlm_jax.report.repeated import repeated
from mdlm_jax.report.stored import read_stored, write_stored
from mdlm_jax.report.text.findings import laws, not_supported, supported, verdict
from mdlm_jax.report.text.weaknesses import warnings
from mdlm_jax.runs.result import Result, read_results
from mdlm_jax.style import MARKERS, PALETTE, number, palette_index

__all__ = [
    "COUNTERS",
    "MARKERS",
    "PALETTE",
    "Analysis",
    "Result",
    "analyse",
    "audits_of",
    "charts",
    "equal_compute",
    "forms_of",
    "isoflops",
    "kept_fits",
    "laws",
    "loss_against_flops",
    "multipliers",
    "not_supported",
    "number",
    "parametric_fits",
    "palette_index",
    "read_results",
    "read_stored",
    "render",
    "repeated",
    "supported",
    "verdict",
    "warnings",
    "write_report",
    "write_stored",
]
