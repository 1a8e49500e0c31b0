"""From results to an HTML report: what results support (`analyse` and others), and figures and sentences about it."""

from mdlm_jax.costs.flops import COUNTERS
from mdlm_jax.report import charts, render, weak, words
from mdlm_jax.report.analysis import Analysis, analyse
from mdlm_jax.report.equal import equal_spends
from mdlm_jax.report.figures_compute import loss_against_flops, multipliers
from mdlm_jax.report.figures_isoflop import isoflops
from mdlm_jax.report.page import write_report
from mdlm_jax.report.repeated import repeated
from mdlm_jax.report.stored import read_stored, write_stored
from mdlm_jax.report.surfaces import fit_surfaces
from mdlm_jax.runs.result import Result, read_results
from mdlm_jax.style import MARKERS, PALETTE, number, place_in_palette

__all__ = [
    "COUNTERS",
    "MARKERS",
    "PALETTE",
    "Analysis",
    "Result",
    "analyse",
    "charts",
    "equal_spends",
    "fit_surfaces",
    "isoflops",
    "loss_against_flops",
    "multipliers",
    "number",
    "place_in_palette",
    "read_results",
    "read_stored",
    "render",
    "repeated",
    "weak",
    "words",
    "write_report",
    "write_stored",
]
