"""What changed between two snapshots of one source, and which changes are larger than they should be.

A database that is read every night changes a little. A table that lost a tenth of its rows, an element that is gone, or
the compounds of one element moved by a constant against those of its neighbour (a wrong elemental reference) are not of
that kind, and are better seen before a network is trained on them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from models.elemental_references import audit_references
from models.elements import ELEMENTS
from models.formula import ParsedFormulas, parse_many

#: Columns whose extremes and gaps are watched, with the change that their extremes may make.
_WATCHED: Final = {
    "formation_energy_per_atom": "extreme_energy",
    "energy_above_hull": "extreme_energy",
    "band_gap": "extreme_energy",
    "volume_per_atom": "extreme_relative",
    "bulk_modulus_vrh": "extreme_relative",
    "shear_modulus_vrh": "extreme_relative",
}


@dataclass(frozen=True)
class DriftLimits:
    """Changes up to which a snapshot counts as the same source.

    Attributes
    ----------
    rows
        Change of the number of rows, relative.
    filled
        Change of the share of rows that have a value, per column.
    extreme_energy
        Change of the lowest or highest energy or band gap (eV/atom, eV).
    extreme_relative
        Change of other extremes, relative.
    shared_energy
        Median absolute change of the energies of shared compositions (eV/atom).
    reference
        Change of the shift of an element's compounds against its neighbours' (eV per atom of the element); without an
        earlier snapshot only shifts count that the audit of references would correct.
    """

    rows: float = 0.1
    filled: float = 0.05
    extreme_energy: float = 1.0
    extreme_relative: float = 0.5
    shared_energy: float = 0.02
    reference: float = 0.1


@dataclass
class _Findings:
    limits: DriftLimits
    rows: list[dict[str, object]]

    def add(
        self,
        measure: str,
        subject: str,
        previous: float | None,
        current: float | None,
        change: float | None,
        limit: float,
        note: str = "",
    ) -> None:
        exceeded = change is not None and abs(change) > limit
        self.rows.append(
            {
                "measure": measure,
                "subject": subject,
                "previous": previous,
                "current": current,
                "change": change,
                "limit": limit,
                "exceeded": exceeded,
                "note": note or None,
            }
        )


def drift(current: pd.DataFrame, previous: pd.DataFrame | None, limits: DriftLimits | None = None) -> pd.DataFrame:
    """Compare a snapshot with the one before.

    Parameters
    ----------
    current, previous
        Tables with ``formula`` (reduced) and any of ``formation_energy_per_atom, energy_above_hull`` (eV/atom),
        ``band_gap`` (eV), ``volume_per_atom`` (A^3/atom), ``bulk_modulus_vrh, shear_modulus_vrh`` (GPa) and
        ``release``. Without an earlier snapshot only the elemental references are looked at.
    limits
        What is tolerated.

    Returns
    -------
    DataFrame
        ``measure`` (rows, filled, minimum, maximum, vanished, appeared, shared_energy, reference), ``subject`` (column
        or element), ``previous``, ``current``, ``change``, ``limit``, ``exceeded`` and ``note``.
    """
    found = _Findings(limits or DriftLimits(), [])
    now = parse_many(current["formula"])
    if previous is not None:
        before = parse_many(previous["formula"])
        n, m = len(previous), len(current)
        found.add("rows", "all", n, m, (m - n) / max(n, 1), found.limits.rows)
        for column, kind in _WATCHED.items():
            _column(found, column, kind, previous, current)
        _elements(found, before, now)
        _shared(found, previous, before, current, now)
        _references(found, previous, before, current, now)
    else:
        _references(found, None, None, current, now)
    names = ["measure", "subject", "previous", "current", "change", "limit", "exceeded", "note"]
    table = pd.DataFrame(found.rows, columns=names)
    return table.astype(dict.fromkeys(("previous", "current", "change", "limit"), float) | {"exceeded": bool})


def _values(table: pd.DataFrame, column: str) -> pd.Series:
    if column not in table.columns:
        return pd.Series(np.full(len(table), np.nan))
    return pd.to_numeric(table[column], errors="coerce")


def _column(found: _Findings, column: str, kind: str, previous: pd.DataFrame, current: pd.DataFrame) -> None:
    before, now = _values(previous, column), _values(current, column)
    shares = [float(values.notna().mean()) if len(values) else 0.0 for values in (before, now)]
    if not any(shares):
        return
    found.add("filled", column, shares[0], shares[1], shares[1] - shares[0], found.limits.filled)
    if not all(shares):
        return
    limit = float(getattr(found.limits, kind))
    for measure in ("minimum", "maximum"):
        old, new = (float(values.min() if measure == "minimum" else values.max()) for values in (before, now))
        scale = max(abs(old), 1e-12) if kind == "extreme_relative" else 1.0
        found.add(measure, column, old, new, (new - old) / scale, limit)


def _counts(parsed: ParsedFormulas) -> np.ndarray:
    """Return how many compositions have each of the 86 elements."""
    has = np.zeros((len(parsed), len(ELEMENTS)), dtype=bool)
    rows, columns = np.nonzero(parsed.amounts > 0)
    has[rows, parsed.elements[rows, columns]] = True
    counts: np.ndarray = has.sum(axis=0)
    return counts


def _elements(found: _Findings, before: ParsedFormulas, now: ParsedFormulas) -> None:
    for symbol, old, new in zip(ELEMENTS, _counts(before), _counts(now), strict=True):
        if old and not new:
            found.add("vanished", symbol, old, new, -1.0, 0.0, f"{symbol} occurred in {old:,} rows and is gone")
        elif new and not old:
            found.add("appeared", symbol, old, new, 1.0, 1.0, f"{symbol} is new")


def _lowest(table: pd.DataFrame, parsed: ParsedFormulas) -> pd.Series:
    energies = _values(table, "formation_energy_per_atom")
    lowest: pd.Series = pd.Series(energies.to_numpy(), index=list(parsed.reduced)).dropna().groupby(level=0).min()
    return lowest


def _shared(
    found: _Findings, previous: pd.DataFrame, before: ParsedFormulas, current: pd.DataFrame, now: ParsedFormulas
) -> None:
    pairs = pd.concat([_lowest(previous, before), _lowest(current, now)], axis=1, join="inner")
    if len(pairs):
        change = float((pairs.iloc[:, 1] - pairs.iloc[:, 0]).abs().median())
        note = f"median absolute change of {len(pairs):,} shared compositions"
        found.add("shared_energy", "formation_energy_per_atom", None, None, change, found.limits.shared_energy, note)


def _references(
    found: _Findings,
    previous: pd.DataFrame | None,
    before: ParsedFormulas | None,
    current: pd.DataFrame,
    now: ParsedFormulas,
) -> None:
    if _values(current, "formation_energy_per_atom").notna().sum() == 0:
        return
    audit = audit_references(current, parsed=now)
    earlier: dict[str, float] = {}
    if previous is not None and _values(previous, "formation_energy_per_atom").notna().any():
        earlier = _shifts(audit_references(previous, parsed=before))
    shifts = _shifts(audit)
    worst = audit.loc[audit.groupby("element")["reference_correction"].apply(lambda c: c.abs().idxmax())]
    corrections = dict(zip(worst["element"], worst["reference_correction"], strict=True))
    notes = dict(zip(worst["element"], worst["neighbours"], strict=True))
    for symbol, shift in shifts.items():
        old, wrong = earlier.get(symbol), float(corrections[symbol])
        if old is not None:
            found.add("reference", symbol, old, shift, shift - old, found.limits.reference, str(notes[symbol]))
        elif wrong != 0.0:
            found.add("reference", symbol, None, shift, wrong, found.limits.reference, str(notes[symbol]))


def _shifts(audit: pd.DataFrame) -> dict[str, float]:
    """Return the shift of every element, over its releases weighted by compounds compared [eV per atom of it]."""
    shifts = {}
    for symbol, rows in audit.groupby("element"):
        shifts[str(symbol)] = float(np.average(rows["shift"], weights=rows["n_compounds"]))
    return shifts
