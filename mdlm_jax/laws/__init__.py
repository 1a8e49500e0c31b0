"""Scaling laws from arrays: exponents, surfaces and compute multipliers, with their intervals.

The functions take arrays and return NamedTuples, and depend on no trainer or objective. Losses are nats per
token; compute is FLOPs of a named counter. A number that the data do not support is a `Refusal` with the reason.
"""

from mdlm_jax.laws.audit import Audit, Bin, audit, by_distance
from mdlm_jax.laws.crossing import Cells, Crossing, EpochRuns, best_size, cells, epochs_crossing
from mdlm_jax.laws.data_constrained import (
    MUENNIGHOFF,
    QUOKKA,
    Muennighoff,
    Quokka,
    RepeatedRuns,
    crossover,
    fit_two_stage,
)
from mdlm_jax.laws.design import Candidates, Proposal, SurfaceMultiplier, propose, surface_multiplier
from mdlm_jax.laws.floors import FloorMultiplier, multiplier_with_floor
from mdlm_jax.laws.frontier import Frontier, LearningCurve, frontier, smoothed_frontier
from mdlm_jax.laws.isoflop import MIN_SIZES, IsoFlop, Minimum, akima_minimum, isoflop_minimum
from mdlm_jax.laws.kept import KeptFit, keep, read_fits, write_fits
from mdlm_jax.laws.multiplier import Multiplier, compute_multiplier
from mdlm_jax.laws.optima import Optima, Sample, optima
from mdlm_jax.laws.other_forms import FORMS, FormFit, compare_forms
from mdlm_jax.laws.parametric import CHINCHILLA, Allocation, Chinchilla, Runs, allocation
from mdlm_jax.laws.power_law import PowerLaw, compute_at, held_out_errors, law_at, power_law
from mdlm_jax.laws.prediction import Prediction, hull_distance, predict_loss
from mdlm_jax.laws.rates import BestRate, LowestPoint, Shift, best_rate, lowest_point, shift
from mdlm_jax.laws.refusal import MAX_DECADES, Refusal
from mdlm_jax.laws.resampling import interval, row_resamples, seed_resamples
from mdlm_jax.laws.seeds import SeedMean, seed_deviation, seed_mean
from mdlm_jax.laws.shared import GroupedRuns, shared_law
from mdlm_jax.laws.surface import Fit, Law, fit_law, loss_at
from mdlm_jax.laws.uncertainty import HeldOut, Profile, bootstrap, leave_one_budget_out, profile, refitted

__all__ = [
    "CHINCHILLA",
    "FORMS",
    "MAX_DECADES",
    "MIN_SIZES",
    "MUENNIGHOFF",
    "QUOKKA",
    "Allocation",
    "Audit",
    "BestRate",
    "Bin",
    "Candidates",
    "Cells",
    "Chinchilla",
    "Crossing",
    "EpochRuns",
    "Fit",
    "FormFit",
    "FloorMultiplier",
    "Frontier",
    "GroupedRuns",
    "HeldOut",
    "IsoFlop",
    "KeptFit",
    "Law",
    "LearningCurve",
    "LowestPoint",
    "Minimum",
    "Muennighoff",
    "Multiplier",
    "Optima",
    "PowerLaw",
    "Prediction",
    "Profile",
    "Proposal",
    "Quokka",
    "Refusal",
    "RepeatedRuns",
    "Runs",
    "Sample",
    "SeedMean",
    "Shift",
    "SurfaceMultiplier",
    "akima_minimum",
    "allocation",
    "audit",
    "best_rate",
    "best_size",
    "bootstrap",
    "by_distance",
    "cells",
    "compute_at",
    "compare_forms",
    "compute_multiplier",
    "crossover",
    "epochs_crossing",
    "fit_law",
    "fit_two_stage",
    "frontier",
    "held_out_errors",
    "hull_distance",
    "interval",
    "isoflop_minimum",
    "keep",
    "law_at",
    "leave_one_budget_out",
    "loss_at",
    "lowest_point",
    "multiplier_with_floor",
    "optima",
    "power_law",
    "predict_loss",
    "profile",
    "propose",
    "read_fits",
    "refitted",
    "row_resamples",
    "seed_deviation",
    "seed_mean",
    "seed_resamples",
    "shared_law",
    "shift",
    "smoothed_frontier",
    "surface_multiplier",
    "write_fits",
]
