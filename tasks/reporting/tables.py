"""Rows of the page's tables, chosen and ordered; numbers become text in the template."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from tasks.reporting.data import ReportData, has_rows
from tasks.reporting.summary import flag_category
from tasks.reporting.wording import FLAG_LABELS, is_missing

N_CANDIDATES, N_FLAGGED, N_RANKED, N_REASONS = 50, 20, 20, 15
# Stable compounds that the +-5 sigma rule of the published cleaning removes: they must stay on the hull.
CANARIES = ("CaF2", "LaF3", "HoF3", "ThF4", "ThO2")
# Compositions on the published list of discoveries that no chemist believes.
IMPLAUSIBLE = ("KF6", "NaF8", "OF9", "SeF9")

Row = dict[str, Any]


def records(table: pd.DataFrame) -> list[Row]:
    """Rows as dictionaries with string keys."""
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]


def best_per_system(candidates: pd.DataFrame, limit: int) -> list[Row]:
    """Pick the lowest candidate of each chemical system, lowest first, with ``n_in_system`` and its ``flags``.

    Parameters
    ----------
    candidates : DataFrame
        Schema ``candidates``.
    limit : int
        Rows at most.
    """
    if candidates.empty:
        return []
    ordered = candidates.sort_values(["decomposition_energy", "index"], kind="stable")
    sizes = candidates["chemsys"].value_counts()
    best = ordered.drop_duplicates("chemsys").head(limit)
    rows = records(best)
    for row in rows:
        row["n_in_system"] = int(sizes[row["chemsys"]])
        row["flags"] = [flag for flag in FLAG_LABELS if row[flag] is True]
    return rows


def candidate_tables(candidates: pd.DataFrame | None) -> tuple[list[Row], list[Row]]:
    """Rows without any flag, and rows with one; the best of each chemical system."""
    if candidates is None or candidates.empty:
        return [], []
    flagged = flag_category(candidates) > 0
    return (
        best_per_system(candidates[~flagged], N_CANDIDATES),
        best_per_system(candidates[flagged], N_FLAGGED),
    )


def canary_rows(data: ReportData) -> list[Row]:
    """Say what became of each canary: ``on_hull`` (None if unchecked), and whether the screen sells it as new."""
    rows = []
    for formula in CANARIES:
        checked: Mapping[str, Any] = data.canaries.get(formula, {})
        in_phases = checked.get("in_phases")
        distance = checked.get("energy_above_hull")
        rows.append(
            {
                "formula": formula,
                "in_phases": in_phases,
                "energy_above_hull": distance,
                "on_hull": None if distance is None else abs(float(distance)) < 1e-6,
                "sold_as_new": bool(unflagged_among(data.candidates, (formula,))),
            }
        )
    return rows


def unflagged_among(candidates: pd.DataFrame | None, formulas: tuple[str, ...]) -> list[str]:
    """Which of these formulas are candidates without any flag."""
    if candidates is None or candidates.empty:
        return []
    hits = candidates[candidates["formula"].isin(formulas)]
    found = set(hits["formula"][flag_category(hits) == 0])
    return [formula for formula in formulas if formula in found]


def ranking_rows(ranking: pd.DataFrame | None) -> list[Row]:
    """Pick the first ranks, every column of the schema present (None where the table has none)."""
    if ranking is None or ranking.empty:
        return []
    columns = [
        "rank", "material_id", "formula", "energy_above_hull", "band_gap", "bulk_modulus_vrh", "shear_modulus_vrh",
        "log10_shear_modulus_std", "moduli_source", "volume_ratio", "poisson_ratio", "pugh_ratio", "chi", "chi_q05",
        "chi_q95", "lambda_crit_nm", "probability_stable", "hypothetical", "pareto", "reduction_potential",
        "oxidation_potential", "superionic_likelihood",
    ]  # fmt: skip
    ordered = ranking.sort_values("rank", kind="stable").head(N_RANKED)
    return [{column: row.get(column) for column in columns} for row in records(ordered)]


def is_stated(rows: list[Row], column: str) -> bool:
    """Whether any of the rows has a value in a column: one without is not shown."""
    return any(not is_missing(row[column]) for row in rows)


def corrected_references(references: pd.DataFrame | None) -> list[Row]:
    """Elements whose reference the audit corrected, largest first."""
    if references is None or references.empty:
        return []
    corrected = references[references["reference_correction"].abs() > 1e-9]
    order = corrected["reference_correction"].abs().sort_values(ascending=False, kind="stable").index
    return records(corrected.loc[order])


def exclusion_rows(excluded: pd.DataFrame | None) -> list[Row]:
    """Stage, reason and count; reasons beyond the most frequent of a stage are summed up, none is dropped."""
    if excluded is None or excluded.empty:
        return []
    weights = excluded["count"] if "count" in excluded else pd.Series(1, index=excluded.index)
    counted = weights.groupby([excluded["stage"], excluded["reason"]], sort=False).sum()
    rows: list[Row] = []
    for stage in dict.fromkeys(excluded["stage"]):
        reasons = sorted(counted[stage].items(), key=lambda item: (-item[1], str(item[0])))
        rows += [{"stage": stage, "reason": reason, "count": int(n)} for reason, n in reasons[:N_REASONS]]
        if reasons[N_REASONS:]:
            rest = reasons[N_REASONS:]
            rows.append({"stage": stage, "reason": f"{len(rest)} rarer reasons", "count": int(sum(n for _, n in rest))})
    return rows


def flatten(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Nested parameters as (dotted name, value), in their order."""
    rows: list[tuple[str, Any]] = []
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            rows += flatten(value, f"{name}.")
        else:
            rows.append((name, value))
    return rows


def card_rows(card: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """List the model card without what a reader cannot use on paper (long lists) or finds in the metrics table."""
    skipped = ("metrics", "element_order", "normalisation", "calibration", "domain")
    rows = flatten({key: value for key, value in card.items() if key not in skipped})
    return [(name, value) for name, value in rows if not (isinstance(value, (list, tuple)) and len(value) > 24)]


def metric_table(metrics: Mapping[str, Mapping[str, Any]]) -> tuple[list[str], list[tuple[str, list[Any]]]]:
    """Columns and rows of a table of metrics; only scalars, in the order in which they first occur."""
    names: list[str] = []
    for values in metrics.values():
        names += [key for key, value in values.items() if key not in names and isinstance(value, (int, float))]
    return names, [(str(part), [values.get(name) for name in names]) for part, values in metrics.items()]


def calibration_rows(calibration: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """List the scalars of a calibration, error on unseen systems first."""
    scalars = [(name, value) for name, value in flatten(calibration) if isinstance(value, (int, float, str))]
    return sorted(scalars, key=lambda item: item[0] != "out_of_system_mae")


def mixed_schemes(data: ReportData) -> bool:
    """Whether any row was made from energies of different schemes, as ``--allow-mixed-scheme`` marks them."""
    shown = [table for table in (data.predictions, data.candidates, data.ranking) if table is not None]
    return any(bool(table["mixed_scheme"].eq(True).any()) for table in shown if "mixed_scheme" in table)


def rests_on_potential(data: ReportData) -> bool:
    """Whether the ranking's moduli were learnt from the self-built, potential-computed set."""
    if not has_rows(data.ranking):
        return False
    sources = [data.moduli_data_source, *(str(entry.get("source", "")) for entry in data.provenance)]
    return any("selfbuilt" in source for source in sources)
