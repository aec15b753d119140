"""Audit of elemental reference energies: a wrong one shifts all compounds of its element by a constant per atom.

A formation energy is the compound's energy minus its elements' reference energies, so a reference that is wrong by
``d`` eV/atom shifts a compound by ``-d`` times the element's fraction. Compounds of an element are compared with the
compounds in which a neighbour (next in the group; next in the row for lanthanides and actinides) stands in its place.
Chemistry alone also makes a difference, but it scatters from compound to compound, and between the two neighbours of an
element it mostly changes sign. A shift is corrected when it is large and, in addition, either tight and the same
against at least two neighbours, or equal to the formation energy that the source gives the element itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from models.elements import (
    ACTINIDES,
    ALKALI_METALS,
    ALKALINE_EARTH_METALS,
    CHALCOGENS,
    ELEMENT_INDEX,
    ELEMENTS,
    HALOGENS,
    LANTHANIDES,
    N_ELEMENTS,
    NOBLE_GASES,
)
from models.errors import InputError
from models.formula import ParsedFormulas, parse_many

SMALLEST_CORRECTION: Final = 0.3
"""eV/atom of the element: smaller shifts cannot be told from chemistry."""
SIGNIFICANCE: Final = 5.0
"""A shift must be this many times its error."""
TIGHTNESS: Final = 3.0
"""A shift must be this many times the scatter between compounds (robust standard deviation)."""
FEWEST_COMPOUNDS: Final = 10
"""Pairs of compounds that a neighbour must offer to count."""
AGREEMENT: Final = 0.1
"""eV/atom within which an elemental row confirms a shift (or twice the shift's error, when that is more)."""
_PHYSICAL: Final = 6.0  # eV/atom, as in the phases table

_GROUPS: Final = (
    ALKALI_METALS,
    ALKALINE_EARTH_METALS,
    ("Sc", "Y", "La"),
    ("Ti", "Zr", "Hf"),
    ("V", "Nb", "Ta"),
    ("Cr", "Mo", "W"),
    ("Mn", "Tc", "Re"),
    ("Fe", "Ru", "Os"),
    ("Co", "Rh", "Ir"),
    ("Ni", "Pd", "Pt"),
    ("Cu", "Ag", "Au"),
    ("Zn", "Cd", "Hg"),
    ("B", "Al", "Ga", "In", "Tl"),
    ("C", "Si", "Ge", "Sn", "Pb"),
    ("N", "P", "As", "Sb", "Bi"),
    CHALCOGENS,
    HALOGENS,
    NOBLE_GASES,
    # Eu and Yb are mostly divalent: their likes are each other and the alkaline earths of their size
    tuple(e for e in LANTHANIDES if e not in ("Eu", "Yb")),
    ("Sr", "Eu", "Yb", "Ca"),
    ACTINIDES,
)
# Any 86 random odd integers do: sums modulo 2**64 tell compositions apart.
_WEIGHTS: Final = np.random.default_rng(65).integers(1, 2**63, N_ELEMENTS + 1, dtype=np.uint64) * np.uint64(
    2
) + np.uint64(1)


def neighbours(element: str) -> tuple[str, ...]:
    """Elements whose compounds resemble those of ``element`` most; empty for hydrogen."""
    found: dict[str, None] = {}
    for group in _GROUPS:
        if element in group and not (group[0] == "Sr" and element in ALKALINE_EARTH_METALS):
            at = group.index(element)
            found.update(dict.fromkeys(group[max(at - 1, 0) : at] + group[at + 1 : at + 2]))
    return tuple(found)


@dataclass(frozen=True)
class _Comparison:
    """Compounds of an element against one neighbour's: per atom of the element, eV."""

    neighbour: str
    n: int
    median: float
    scatter: float

    @property
    def error(self) -> float:
        """Standard error of the median."""
        return float(1.2533 * self.scatter / np.sqrt(self.n))

    def __str__(self) -> str:
        return f"{self.neighbour} {self.median:+.3f} +- {self.scatter:.3f} ({self.n})"


def audit_references(df: pd.DataFrame, *, parsed: ParsedFormulas | None = None) -> pd.DataFrame:
    """Measure the reference shift of every element in every release.

    Parameters
    ----------
    df : DataFrame
        Columns ``formula``, ``formation_energy_per_atom`` (eV/atom, raw) and, where there are releases, ``release``.
    parsed : ParsedFormulas, optional
        The formulas, when they have been read already.

    Returns
    -------
    DataFrame
        One row per element and release with compounds to compare: ``element``, ``release`` (None without that
        column), ``shift`` (eV per atom of the element, mean over neighbours of the median difference),
        ``shift_error`` (half the spread between neighbours or the standard error, whichever is more; the scatter
        between compounds when there is one neighbour only), ``n_compounds`` (pairs compared), ``neighbours`` (what
        each says: median +- scatter (pairs), and the elemental row) and ``reference_correction`` (eV per atom of the
        element, 0 where the shift may be chemistry; the elemental row's value where that confirms the shift).

    Raises
    ------
    InputError
        When a column is missing.
    """
    parsed = _parsed(df, parsed)
    energies = pd.to_numeric(df["formation_energy_per_atom"], errors="coerce").to_numpy(dtype=np.float64)
    usable = parsed.valid & (np.abs(energies) <= _PHYSICAL)  # NaN compares false
    releases = _releases(df)
    elemental = {
        (ELEMENTS[parsed.elements[i, 0]], releases[i]): float(energies[i])
        for i in np.flatnonzero(usable & (parsed.arity == 1))
    }
    pairs = _Pairs(parsed, energies, usable & (parsed.arity > 1))
    rows = []
    for element in ELEMENTS:
        found: dict[str | None, list[_Comparison]] = {}
        for neighbour in neighbours(element):
            row, difference = pairs.compare(element, neighbour)
            labels = releases[row]
            for name in dict.fromkeys(labels):
                found.setdefault(name, []).append(_summary(neighbour, difference[labels == name]))
        for release in sorted(found, key=str):
            comparisons = [c for c in found[release] if c.n >= FEWEST_COMPOUNDS]
            if comparisons:
                rows.append(_verdict(element, release, comparisons, _elemental(elemental, element, release)))
    columns = ["element", "reference_correction", "n_compounds", "shift", "shift_error", "neighbours", "release"]
    return pd.DataFrame(rows, columns=columns).astype({"n_compounds": np.int32, "reference_correction": np.float64})


def apply_references(
    df: pd.DataFrame, references: pd.DataFrame, *, parsed: ParsedFormulas | None = None
) -> pd.DataFrame:
    """Take the corrections off the formation energies; the raw values are kept.

    Parameters
    ----------
    df : DataFrame
        As for `audit_references`. With a column ``formation_energy_raw`` that one is corrected, so that applying
        references twice is the same as once.
    references : DataFrame
        Columns ``element``, ``reference_correction`` (eV per atom of the element) and ``release`` (None: every row).
    parsed : ParsedFormulas, optional
        The formulas, when they have been read already.

    Returns
    -------
    DataFrame
        A copy with ``formation_energy_raw``, ``reference_correction`` (eV/atom, subtracted) and the corrected
        ``formation_energy_per_atom``.
    """
    parsed = _parsed(df, parsed)
    source = "formation_energy_raw" if "formation_energy_raw" in df else "formation_energy_per_atom"
    raw = pd.to_numeric(df[source], errors="coerce").to_numpy(dtype=np.float64)
    releases = _releases(df)
    wanted = references[references["reference_correction"] != 0.0]
    total = np.zeros(len(df))
    sums = np.maximum(parsed.amounts.sum(axis=1, dtype=np.int64), 1)
    for element, size, release in zip(
        wanted["element"], wanted["reference_correction"], wanted["release"], strict=True
    ):
        of_element = parsed.elements == ELEMENT_INDEX[element]
        fraction = (parsed.amounts * of_element).sum(axis=1) / sums
        total += size * fraction * (True if pd.isna(release) else releases == release)
    return df.assign(formation_energy_raw=raw, reference_correction=total, formation_energy_per_atom=raw - total)


def element_corrections(references: pd.DataFrame) -> NDArray[np.float64]:
    """One correction per element, for predictions of a network that was trained on raw energies.

    The network has learnt what most of an element's rows say, so the release with the most compounds counts.

    Parameters
    ----------
    references : DataFrame
        From `audit_references`.

    Returns
    -------
    ndarray, shape (86,)
        eV per atom of the element; subtract ``fractions @ corrections`` from predictions.
    """
    corrections = np.zeros(N_ELEMENTS)
    largest = references.sort_values("n_compounds", kind="stable").drop_duplicates("element", keep="last")
    corrections[[ELEMENT_INDEX[e] for e in largest["element"]]] = largest["reference_correction"]
    return corrections


class _Pairs:
    """Looks up compounds that differ in one element only."""

    def __init__(self, parsed: ParsedFormulas, energies: NDArray[np.float64], usable: NDArray[np.bool_]) -> None:
        self.rows = np.flatnonzero(usable)
        self.rows = self.rows[np.argsort(energies[self.rows], kind="stable")]  # of equal compositions the lowest counts
        self.energies = energies[self.rows]
        self.elements = parsed.elements[self.rows]
        self.amounts = parsed.amounts[self.rows].astype(np.uint64)
        self.totals = self.amounts.sum(axis=1)
        self.keys = (self.amounts * _WEIGHTS[self.elements]).sum(axis=1, dtype=np.uint64)
        self.order = np.argsort(self.keys, kind="stable")
        self.sorted_keys = self.keys[self.order]

    def compare(self, element: str, neighbour: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Rows of the element's compounds with a counterpart, and the differences per atom of the element in eV."""
        x, y = ELEMENT_INDEX[element], ELEMENT_INDEX[neighbour]
        mine, column = np.nonzero(self.elements == x)
        free = ~(self.elements[mine] == y).any(axis=1)
        mine, column = mine[free], column[free]
        amount = self.amounts[mine, column]
        wanted = self.keys[mine] - amount * _WEIGHTS[x] + amount * _WEIGHTS[y]
        at = np.searchsorted(self.sorted_keys, wanted)
        at = np.minimum(at, len(self.sorted_keys) - 1)
        hit = self.sorted_keys[at] == wanted if len(self.sorted_keys) else np.zeros(len(mine), dtype=np.bool_)
        mine, theirs = mine[hit], self.order[at[hit]]
        difference = self.energies[mine] - self.energies[theirs]
        return self.rows[mine], difference * self.totals[mine] / amount[hit]


def _summary(neighbour: str, differences: NDArray[np.float64]) -> _Comparison:
    median = float(np.median(differences))
    return _Comparison(neighbour, len(differences), median, 1.4826 * float(np.median(np.abs(differences - median))))


def _verdict(
    element: str, release: str | None, comparisons: list[_Comparison], elemental: float | None
) -> dict[str, object]:
    medians = np.array([c.median for c in comparisons])
    scatter = max(c.scatter for c in comparisons)
    shift = float(medians.mean())
    if len(comparisons) > 1:
        error = max(float(np.ptp(medians)) / 2, *(c.error for c in comparisons))
        tight = abs(shift) >= SIGNIFICANCE * error and abs(shift) >= TIGHTNESS * scatter
    else:
        error = scatter  # one neighbour cannot tell a shift from chemistry
        tight = False
    confirmed = (
        elemental is not None
        and abs(elemental) >= SMALLEST_CORRECTION
        and abs(elemental - shift) <= max(AGREEMENT, min(2 * error, abs(shift) / 2))
    )
    correction = 0.0
    if abs(shift) >= SMALLEST_CORRECTION and (tight or confirmed):
        correction = elemental if confirmed and elemental is not None else shift
    evidence = [str(c) for c in comparisons]
    if elemental is not None:
        evidence.append(f"elemental row {elemental:+.3f}")
    return {
        "element": element,
        "reference_correction": correction,
        "n_compounds": sum(c.n for c in comparisons),
        "shift": shift,
        "shift_error": error,
        "neighbours": "; ".join(evidence),
        "release": release,
    }


def _elemental(rows: dict[tuple[str, str | None], float], element: str, release: str | None) -> float | None:
    """Find the element's own formation energy, else that of the latest other release (a table may list it once)."""
    if (element, release) in rows:
        return rows[element, release]
    others = [rows[key] for key in sorted(rows, key=str) if key[0] == element]
    return others[-1] if others else None


def _releases(df: pd.DataFrame) -> NDArray[np.object_]:
    if "release" not in df:
        return np.full(len(df), None, dtype=object)
    return np.array([None if pd.isna(r) else str(r) for r in df["release"]], dtype=object)


def _parsed(df: pd.DataFrame, parsed: ParsedFormulas | None) -> ParsedFormulas:
    missing = [c for c in ("formula", "formation_energy_per_atom") if c not in df]
    if missing:
        raise InputError(f"column {missing[0]} is missing; name it with --map {missing[0]}=<your column>")
    if parsed is None:
        return parse_many(df["formula"])
    if len(parsed) != len(df):
        raise InputError(f"{len(df)} rows came with {len(parsed)} parsed formulas; parse the same table")
    return parsed
