"""All figures of the report; each takes tables and returns inline SVG."""

from __future__ import annotations

from tasks.reporting.figures_electrolytes import chi_against_shear, chi_intervals, moduli_parity
from tasks.reporting.figures_interfaces import chi_over_directions, regimes
from tasks.reporting.figures_screening import (
    arity_funnel,
    decomposition_distribution,
    element_counts,
    element_map,
    waterfall,
)
from tasks.reporting.figures_training import learning_curve, parity, reliability, residuals

__all__ = [
    "arity_funnel",
    "chi_against_shear",
    "chi_intervals",
    "chi_over_directions",
    "decomposition_distribution",
    "element_counts",
    "element_map",
    "learning_curve",
    "moduli_parity",
    "parity",
    "regimes",
    "reliability",
    "residuals",
    "waterfall",
]
