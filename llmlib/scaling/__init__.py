"""Scaling laws: the loss as a function of parameters and tokens, how to fit it, and how to spend a budget by it."""

from llmlib.scaling.approaches import (
    IsoflopMinimum,
    PowerLaw,
    envelope_minima,
    fit_power_law,
    isoflop_minima,
    parabola_minimum,
    subset_exponents,
)
from llmlib.scaling.counting import DenseShape, six_nd
from llmlib.scaling.fitting import (
    LawFit,
    bootstrap_loss_laws,
    checked_runs,
    fit_loss_law,
    log_residuals,
    percentile_interval,
)
from llmlib.scaling.law import BESIROGLU, HOFFMANN, HOFFMANN_UNROUNDED, Allocation, LossLaw

__all__ = [
    "BESIROGLU", "HOFFMANN", "HOFFMANN_UNROUNDED", "Allocation", "DenseShape", "IsoflopMinimum", "LawFit", "LossLaw",
    "PowerLaw", "bootstrap_loss_laws", "checked_runs", "envelope_minima", "fit_loss_law", "fit_power_law",
    "isoflop_minima", "log_residuals", "parabola_minimum", "percentile_interval", "six_nd",
    "subset_exponents",
]  # fmt: skip
