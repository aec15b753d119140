"""Filters on the way from candidates to ranked electrolytes: table -> kept rows and reasons for the rest.

A filter never changes a row and never drops one silently: kept + excluded = given. Values that are missing are a case
of their own, kept or excluded as the parameters say.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from models.elements import CHALCOGENS, HALOGENS, RADIOACTIVE
from models.errors import InputError
from models.formula import parse

ANION_FORMERS: tuple[str, ...] = ("H", "N", "P", "As", *CHALCOGENS, *HALOGENS)
"""Elements that make a salt of a lithium compound. C, B, Si and heavier metalloids are left out: Li with them gives
conductors (LiC12, LiB3, LiSi), and where they sit in a polyanion (CO3, BH4, SiO4) one of these elements is there
too."""

EXCLUDED_COLUMNS = ("material_id", "formula", "stage", "reason")


@dataclass(frozen=True)
class FilterOutcome:
    """Rows that pass and rows that do not.

    Attributes
    ----------
    kept : DataFrame
        Rows of the input, unchanged and in order, with a fresh index.
    excluded : DataFrame
        material_id, formula, stage, reason of every other row.
    """

    kept: pd.DataFrame
    excluded: pd.DataFrame

    def counts(self) -> dict[str, int]:
        """Count the rows by fate.

        Returns
        -------
        dict of str to int
            ``kept`` and ``excluded_<stage>`` for each stage that excluded a row.
        """
        stages = self.excluded["stage"].value_counts(sort=False)
        return {"kept": len(self.kept)} | {f"excluded_{stage}": int(n) for stage, n in stages.items()}


@dataclass(frozen=True)
class FilterParameters:
    """What a candidate has to be.

    Attributes
    ----------
    metal : str
        Element that it must contain.
    max_energy_above_hull : float or None
        eV/atom; None switches the filter off.
    keep_missing_hull : bool
        Keep rows without an energy above hull.
    min_band_gap : float or None
        eV; None switches the filter off.
    keep_missing_gap : bool
        Keep rows without a band gap.
    anion_formers : tuple of str
        At least one must be present, so that metals and alloys go; empty switches the filter off.
    forbidden_elements : tuple of str
        None may be present.
    redox_active : tuple of str
        None of these either: metals that a metal electrode reduces.
    """

    metal: str = "Li"
    max_energy_above_hull: float | None = 0.05
    keep_missing_hull: bool = False
    min_band_gap: float | None = 1.0
    keep_missing_gap: bool = False
    anion_formers: tuple[str, ...] = ANION_FORMERS
    forbidden_elements: tuple[str, ...] = RADIOACTIVE
    redox_active: tuple[str, ...] = ()


def identified(frame: pd.DataFrame) -> FilterOutcome:
    """Keep rows with an identifier that did not occur before and a formula that can be read.

    Parameters
    ----------
    frame : DataFrame
        material_id, formula.

    Returns
    -------
    FilterOutcome
        Stage ``identity``.
    """
    reasons: list[str | None] = []
    seen: set[str] = set()
    for identifier, formula in zip(_column(frame, "material_id"), _column(frame, "formula"), strict=True):
        reason = None
        if _is_missing(identifier):
            reason = "material_id is missing"
        elif str(identifier) in seen:
            reason = f"material_id {identifier} occurs before"
        else:
            seen.add(str(identifier))
            reason = "formula is missing" if _is_missing(formula) else _formula_reason(str(formula))
        reasons.append(reason)
    return split(frame, "identity", reasons)


def contains_metal(frame: pd.DataFrame, metal: str = "Li") -> FilterOutcome:
    """Keep compounds of a metal.

    Parameters
    ----------
    frame : DataFrame
        formula.
    metal : str
        Symbol.

    Returns
    -------
    FilterOutcome
        Stage ``metal``.
    """
    return _by_elements(frame, "metal", lambda found: None if metal in found else f"contains no {metal}")


def not_metallic(frame: pd.DataFrame, anion_formers: Sequence[str] = ANION_FORMERS) -> FilterOutcome:
    """Keep compounds with at least one anion former; metals, alloys and intercalated graphite go.

    Parameters
    ----------
    frame : DataFrame
        formula.
    anion_formers : sequence of str
        Symbols.

    Returns
    -------
    FilterOutcome
        Stage ``anion``.
    """
    wanted = frozenset(anion_formers)
    reason = "metal, alloy or conductor: holds none of " + " ".join(anion_formers)
    return _by_elements(frame, "anion", lambda found: None if wanted & found else reason)


def without_elements(
    frame: pd.DataFrame,
    forbidden: Sequence[str] = RADIOACTIVE,
    *,
    stage: str = "forbidden_element",
    why: str = "radioactive or not wanted",
) -> FilterOutcome:
    """Keep compounds without certain elements.

    Parameters
    ----------
    frame : DataFrame
        formula.
    forbidden : sequence of str
        Symbols; the radioactive ones by default.
    stage, why : str
        Name of the filter, and what is said of the elements that are found.

    Returns
    -------
    FilterOutcome
        Stage as named.
    """

    def reason(found: frozenset[str]) -> str | None:
        hits = [symbol for symbol in forbidden if symbol in found]
        return f"contains {' '.join(hits)} ({why})" if hits else None

    return _by_elements(frame, stage, reason)


def near_hull(frame: pd.DataFrame, limit: float, *, keep_missing: bool = False) -> FilterOutcome:
    """Keep compounds on or near the convex hull.

    Parameters
    ----------
    frame : DataFrame
        energy_above_hull, eV/atom.
    limit : float
        Largest value that is kept, eV/atom.
    keep_missing : bool
        Keep rows without a value.

    Returns
    -------
    FilterOutcome
        Stage ``hull``.
    """
    return _by_value(
        frame, "hull", "energy_above_hull", lambda x: x <= limit, f"> {limit:g} eV/atom", "eV/atom", keep_missing
    )


def wide_gap(frame: pd.DataFrame, limit: float, *, keep_missing: bool = False) -> FilterOutcome:
    """Keep electronic insulators.

    Parameters
    ----------
    frame : DataFrame
        band_gap, eV.
    limit : float
        Smallest value that is kept, eV.
    keep_missing : bool
        Keep rows without a value.

    Returns
    -------
    FilterOutcome
        Stage ``band_gap``.
    """
    return _by_value(frame, "band_gap", "band_gap", lambda x: x >= limit, f"< {limit:g} eV", "eV", keep_missing)


def apply_filters(frame: pd.DataFrame, parameters: FilterParameters | None = None) -> FilterOutcome:
    """All filters in turn; a row is excluded by the first that it does not pass.

    Parameters
    ----------
    frame : DataFrame
        material_id, formula, energy_above_hull [eV/atom], band_gap [eV].
    parameters : FilterParameters, optional
        Limits.

    Returns
    -------
    FilterOutcome
        Kept rows and every exclusion, in the order of the stages.
    """
    p = parameters or FilterParameters()
    stages: list[Callable[[pd.DataFrame], FilterOutcome]] = [identified, lambda t: contains_metal(t, p.metal)]
    if p.anion_formers:
        stages.append(lambda t: not_metallic(t, p.anion_formers))
    stages.append(lambda t: without_elements(t, p.forbidden_elements))
    if p.redox_active:
        why = "which a metal electrode reduces"
        stages.append(lambda t: without_elements(t, p.redox_active, stage="redox_active", why=why))
    if p.max_energy_above_hull is not None:
        hull = p.max_energy_above_hull
        stages.append(lambda t: near_hull(t, hull, keep_missing=p.keep_missing_hull))
    if p.min_band_gap is not None:
        gap = p.min_band_gap
        stages.append(lambda t: wide_gap(t, gap, keep_missing=p.keep_missing_gap))
    return chain(frame, stages)


def chain(frame: pd.DataFrame, stages: Sequence[Callable[[pd.DataFrame], FilterOutcome]]) -> FilterOutcome:
    """Run filters one after another and join their exclusions.

    Parameters
    ----------
    frame : DataFrame
        Candidates.
    stages : sequence of callable
        Each takes the rows that the one before has kept.

    Returns
    -------
    FilterOutcome
        Of all stages.
    """
    excluded = [pd.DataFrame(columns=list(EXCLUDED_COLUMNS), dtype=object)]
    kept = frame
    for stage in stages:
        outcome = stage(kept)
        kept = outcome.kept
        if len(outcome.excluded):
            excluded.append(outcome.excluded)
    return FilterOutcome(kept.reset_index(drop=True), pd.concat(excluded[1:] or excluded, ignore_index=True))


def split(frame: pd.DataFrame, stage: str, reasons: Sequence[str | None]) -> FilterOutcome:
    """Part a table by reasons.

    Parameters
    ----------
    frame : DataFrame
        n rows with material_id and formula.
    stage : str
        Name of the filter.
    reasons : sequence of str or None, length n
        None keeps the row.

    Returns
    -------
    FilterOutcome
        Missing identifiers read ``row <position>``, missing formulas are empty in the excluded table.
    """
    if len(reasons) != len(frame):
        raise InputError(f"{len(reasons)} reasons for {len(frame)} rows; give one per row")
    keep = np.array([reason is None for reason in reasons], dtype=bool)
    identifiers = [f"row {i}" if _is_missing(m) else str(m) for i, m in enumerate(_column(frame, "material_id"))]
    formulas = ["" if _is_missing(f) else str(f) for f in _column(frame, "formula")]
    excluded = pd.DataFrame({"material_id": identifiers, "formula": formulas, "stage": stage, "reason": list(reasons)})
    return FilterOutcome(frame[keep].reset_index(drop=True), excluded[~keep].reset_index(drop=True))


@lru_cache(maxsize=100_000)
def _elements_of(formula: str) -> frozenset[str]:
    """Symbols of a formula; raises InputError where it cannot be read."""
    return frozenset(parse(formula))


def _formula_reason(formula: str) -> str | None:
    """Why a formula cannot be read."""
    try:
        _elements_of(formula)
    except InputError as error:
        return str(error)
    return None


def _by_elements(frame: pd.DataFrame, stage: str, reason: Callable[[frozenset[str]], str | None]) -> FilterOutcome:
    """Filter by the elements of a formula; a formula that cannot be read is a reason too."""
    reasons = []
    for formula in _column(frame, "formula"):
        unreadable = "formula is missing" if _is_missing(formula) else _formula_reason(str(formula))
        reasons.append(unreadable or reason(_elements_of(str(formula))))
    return split(frame, stage, reasons)


def _by_value(
    frame: pd.DataFrame,
    stage: str,
    column: str,
    passes: Callable[[NDArray[np.float64]], NDArray[np.bool_]],
    failure: str,
    unit: str,
    keep_missing: bool,
) -> FilterOutcome:
    """Filter by a number; missing is NaN, and infinity never passes."""
    values = numbers(frame, column)
    missing, good = np.isnan(values), passes(values) & np.isfinite(values)
    reasons: list[str | None] = [
        (None if keep_missing else f"{column} is missing")
        if absent
        else (None if fine else f"{column} {value:g} {unit} {failure}")
        for value, absent, fine in zip(values, missing, good, strict=True)
    ]
    return split(frame, stage, reasons)


def numbers(frame: pd.DataFrame, column: str) -> NDArray[np.float64]:
    """Read a column as float64, NaN where it is missing or no number.

    Parameters
    ----------
    frame : DataFrame
        n rows.
    column : str
        Its name; a column that does not exist is missing everywhere.

    Returns
    -------
    ndarray, shape (n,)
        float64.
    """
    if column not in frame:
        return np.full(len(frame), np.nan)
    return np.asarray(pd.to_numeric(frame[column], errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan))


def _column(frame: pd.DataFrame, name: str) -> pd.Series:
    """Read a column that must be there."""
    if name not in frame:
        raise InputError(f"candidates have no column {name}; add it (or --map {name}=<your column>)")
    return frame[name]


def _is_missing(value: object) -> bool:
    """None, NaN, NA or an empty text."""
    return value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value)) or str(value).strip() == ""
