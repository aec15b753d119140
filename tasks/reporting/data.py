"""What a report is made of: tables with the columns of the store's schemas, and a few dictionaries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

BANNER_LEVELS = ("info", "warning", "danger")

# Only what a figure or a table of the report reads; everything else a table carries is ignored.
REQUIRED_COLUMNS: dict[str, tuple[str, ...]] = {
    "references": ("element", "reference_correction"),
    "learning_curve": ("member", "epoch", "train_mae"),
    "predictions": ("split", "formation_energy_per_atom", "prediction"),
    "candidates": (
        "index", "formula", "chemsys", "arity", "formation_energy_per_atom", "hull_energy_per_atom",
        "decomposition_energy", "known", "hull_incomplete", "out_of_domain",
    ),
    "moduli_predictions": (
        "bulk_modulus_vrh", "bulk_modulus_prediction", "shear_modulus_vrh", "shear_modulus_prediction",
    ),
    "ranking": (
        "rank", "formula", "bulk_modulus_vrh", "shear_modulus_vrh", "volume_ratio", "chi", "probability_stable",
    ),
    "excluded": ("stage", "reason"),
}  # fmt: skip


@dataclass(frozen=True)
class CleaningCounts:
    """How one of the two cleaned tables came about.

    Attributes
    ----------
    table : str
        ``phases`` or ``training``.
    rows_in, rows_kept : int
        Rows before and after.
    rows_rejected, rows_merged : int
        Rows set aside with a reason; rows folded into another row of the same composition.
    rules : sequence of (str, int)
        Each rule in plain words with the number of rows it took out, in the order of application.
    """

    table: str
    rows_in: int
    rows_kept: int
    rows_rejected: int = 0
    rows_merged: int = 0
    rules: Sequence[tuple[str, int]] = ()


@dataclass(frozen=True)
class ReportData:
    """Everything the report shows; a table that is None or empty belongs to a stage that was not run.

    Attributes
    ----------
    title, subtitle : str
        What was done; what data it rests on and what that is, e.g. "potential-computed (CHGNet), not DFT".
    parameters : mapping
        The campaign's parameters, nested as in its file.
    banners : sequence of (str, str)
        (level, text), level one of ``info``, ``warning``, ``danger``; shown above everything else.
    cleaning : sequence of CleaningCounts
        One per cleaned table.
    references : DataFrame
        Schema ``references``: elemental references as audited (eV/atom of the element).
    learning_curve : DataFrame
        Schema ``learning_curve``; MAE in eV/atom.
    predictions : DataFrame
        Schema ``predictions``; reference and predicted formation energies (eV/atom) with their split.
    metrics : mapping
        ``{split: {mae, rmse, r2, ...}}``, energies in eV/atom.
    screen_summary : mapping
        ``n_compositions`` (int), ``n_systems`` and ``n_below`` (``{arity: int}``), ``threshold`` (eV/atom); optional
        ``n_compositions_by_arity``. Where there is no candidates table also ``n_known``, ``n_hull_incomplete``,
        ``n_out_of_domain`` (each after the flags before it) and ``n_remaining``.
    candidates : DataFrame
        Schema ``candidates``, every row at or below the threshold (10^6 rows are fine). An empty table means that the
        screen ran and kept nothing, None that it did not run.
    calibration : mapping
        What `models.stability.fit_probability` returns (its ``reliability`` bins have ``stated``, ``observed``,
        ``observed_low``, ``observed_high``, ``n``), and ``out_of_system_mae`` (eV/atom); other scalars are listed.
    canaries : mapping
        ``{formula: {"in_phases": bool, "energy_above_hull": float or None}}`` for the stable fluorides and oxides that
        a careless cleaning loses; empty when it was not checked.
    moduli_metrics : mapping
        ``{target: {metric: value}}`` of the predicted moduli on held-out rows.
    moduli_predictions : DataFrame
        ``bulk_modulus_vrh, bulk_modulus_prediction, shear_modulus_vrh, shear_modulus_prediction`` (GPa), held out.
    moduli_data_source : str
        ``source`` of the moduli that were learnt from; ``selfbuilt`` puts a banner on the ranking.
    ranking : DataFrame
        Schema ``ranking``.
    interfaces : DataFrame
        Schema ``interfaces``: the ranked crystals whose elastic tensor is known.
    metal : str
        Symbol of the metal electrode that the ranking is against.
    excluded : DataFrame
        Schema ``excluded`` (one row per material), or already counted with a column ``count``.
    provenance : sequence of mapping
        ``stage, kind, key, digest, rows, source`` of each artifact, in the order of the pipeline.
    model_card : mapping
        Card of the formation-energy model.

    Raises
    ------
    ValueError
        An unknown banner level, a table that lacks a column the report reads, or a candidates table whose number of
        rows contradicts ``screen_summary["n_below"]``.
    """

    title: str
    subtitle: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    banners: Sequence[tuple[str, str]] = ()
    cleaning: Sequence[CleaningCounts] = ()
    references: pd.DataFrame | None = None
    learning_curve: pd.DataFrame | None = None
    predictions: pd.DataFrame | None = None
    metrics: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    screen_summary: Mapping[str, Any] = field(default_factory=dict)
    candidates: pd.DataFrame | None = None
    calibration: Mapping[str, Any] = field(default_factory=dict)
    canaries: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    moduli_metrics: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    moduli_predictions: pd.DataFrame | None = None
    moduli_data_source: str = ""
    ranking: pd.DataFrame | None = None
    interfaces: pd.DataFrame | None = None
    metal: str = "Li"
    excluded: pd.DataFrame | None = None
    provenance: Sequence[Mapping[str, Any]] = ()
    model_card: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for level, _ in self.banners:
            if level not in BANNER_LEVELS:
                raise ValueError(f"unknown banner level {level!r}; use one of {', '.join(BANNER_LEVELS)}")
        for name, columns in REQUIRED_COLUMNS.items():
            table = getattr(self, name)
            missing = [] if table is None or table.empty else [c for c in columns if c not in table.columns]
            if missing:
                raise ValueError(f"table {name!r} lacks {', '.join(missing)}; pass the columns of its schema")
        below = by_arity(self.screen_summary.get("n_below"))
        if self.candidates is not None and below and sum(below.values()) != len(self.candidates):
            raise ValueError(
                f"screen_summary counts {sum(below.values())} candidates, the table has {len(self.candidates)} rows; "
                "pass the whole table and the summary of the same screen"
            )


def has_rows(table: pd.DataFrame | None) -> bool:
    """Whether a stage left any rows."""
    return table is not None and not table.empty


def by_arity(counts: Mapping[Any, Any] | None) -> dict[int, int]:
    """Read counts per arity with integer keys, ascending (JSON makes strings of them)."""
    return {int(k): int(v) for k, v in sorted((counts or {}).items(), key=lambda item: int(item[0]))}
