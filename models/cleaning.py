"""From raw rows of energies to the two tables of the design: phases for the hull, training rows for a network.

They must not be one table: ElemNet's outlier rule removes some of the most stable compounds there are, which would
come back as discoveries if the hull were built without them.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from models.elemental_references import apply_references
from models.elements import ELEMENT_INDEX
from models.errors import InputError
from models.formula import OUTSIDE, ParsedFormulas, parse_many

PHYSICAL_RANGE: Final = (-6.0, 6.0)
"""Formation energies outside (eV/atom) are calculation errors."""
OUTLIER_SIGMAS: Final = 5.0
"""Half width of ElemNet's range, in standard deviations of the training rows around their mean."""
SPLITS: Final = ("train", "calibration", "validation")

_REQUIRED = ("formula", "formation_energy_per_atom")
_CARRIED = ("source", "source_id", "source_version", "functional", "temperature", "release", "volume_per_atom")

Cleaned = tuple[pd.DataFrame, pd.DataFrame, dict[str, int]]


@dataclass(frozen=True)
class _Rows:
    """Rows still in the table: positions in the input, in input order, and what is known of them."""

    raw: pd.DataFrame
    row: NDArray[np.int64]
    parsed: ParsedFormulas
    energy: NDArray[np.float64]
    uncorrected: NDArray[np.float64]
    correction: NDArray[np.float64]

    def keep(self, mask: NDArray[np.bool_]) -> _Rows:
        """Keep the rows of the mask."""
        return replace(
            self,
            row=self.row[mask],
            parsed=self.parsed.select(mask),
            energy=self.energy[mask],
            uncorrected=self.uncorrected[mask],
            correction=self.correction[mask],
        )


def phases_table(
    df: pd.DataFrame,
    *,
    references: pd.DataFrame | None = None,
    physical_range: tuple[float, float] = PHYSICAL_RANGE,
    parsed: ParsedFormulas | None = None,
) -> Cleaned:
    """Lowest energy per composition within the physical range: for the hull and for novelty.

    Parameters
    ----------
    df : DataFrame
        Columns ``formula`` and ``formation_energy_per_atom`` (eV/atom); ``release`` and provenance are carried along.
    references : DataFrame, optional
        Corrections of elemental references (`models.elemental_references.audit_references`), taken off first.
    physical_range : tuple of float
        eV/atom, both ends included; judged after correction.
    parsed : ParsedFormulas, optional
        The formulas, when they have been read already.

    Returns
    -------
    kept : DataFrame
        In input order: ``material_id, formula`` (reduced), ``chemsys, formation_energy_per_atom`` (corrected),
        ``formation_energy_raw, reference_correction, n_rows`` (rows of this composition) and provenance.
    rejected : DataFrame
        ``row`` (position in the input), ``material_id, formula, reason, record`` (the raw row as JSON).
    counts : dict
        ``rows_in = kept + merged + rejected_formula + rejected_element + rejected_energy + rejected_range``.

    Raises
    ------
    InputError
        When a column is missing or the table is empty.
    """
    rows, rejected, counts = _sound_rows(df, references, physical_range, parsed)
    kept, _ = _merge(rows, counts)
    counts["kept"] = len(kept)
    return kept, _rejected_table(df, rejected), counts


def training_table(
    df: pd.DataFrame,
    *,
    calibration_fraction: float = 0.1,
    validation_fraction: float = 0.1,
    seed: int = 0,
    sigmas: float = OUTLIER_SIGMAS,
    references: pd.DataFrame | None = None,
    physical_range: tuple[float, float] = PHYSICAL_RANGE,
    parsed: ParsedFormulas | None = None,
) -> Cleaned:
    """ElemNet's cleaning rules on top of those of `phases_table`, and the split.

    Single elements go first; then rows outside ``mean +- sigmas`` standard deviations of the training rows (those that
    are not validation rows, so that the measured rows have no say); elements that occur no longer are counted.

    Parameters
    ----------
    df : DataFrame
        As for `phases_table`. With a column ``split`` (train, calibration, validation; null: train) a composition
        with a validation row is validation. Without it, whole chemical systems are drawn for validation.
    calibration_fraction : float
        Share of the chemical systems of the training rows set aside for calibration, each as a whole.
    validation_fraction : float
        Share of chemical systems set aside for validation when ``df`` has no split.
    seed : int
        Of the draws, which depend on nothing but it and a system's name.
    sigmas : float
        Half width of the accepted range.
    references, physical_range, parsed
        As for `phases_table`; a network that is measured on raw energies is trained on raw ones (no references).

    Returns
    -------
    kept : DataFrame
        As for `phases_table`, with ``split``.
    rejected : DataFrame
        As for `phases_table`.
    counts : dict
        ``rows_in = kept + merged + rejected_* + dropped_single_element + dropped_outlier``; ``elements_dropped``
        and the rows of each split beside it.

    Raises
    ------
    InputError
        As for `phases_table`, for a split that is not one of the three, and when no training row is left.
    """
    _check_fractions(calibration_fraction, validation_fraction, sigmas)
    rows, rejected, counts = _sound_rows(df, references, physical_range, parsed)
    kept, lowest = _merge(rows, counts)
    kept["split"] = _splits(df, rows, kept, calibration_fraction, validation_fraction, seed)
    stay, dropped = _elemnet_rules(lowest, (kept["split"] != "validation").to_numpy(), sigmas, counts)
    rejected += dropped
    kept = kept[stay].reset_index(drop=True)
    counts["kept"] = len(kept)
    counts |= {split: int((kept["split"] == split).sum()) for split in SPLITS}
    return kept, _rejected_table(df, rejected), counts


def _elemnet_rules(
    lowest: _Rows, is_training: NDArray[np.bool_], sigmas: float, counts: dict[str, int]
) -> tuple[NDArray[np.bool_], list[tuple[int, str]]]:
    """Apply ElemNet's rules: which rows stay, and the others with a reason; the counts are added to `counts`."""
    single = lowest.parsed.arity == 1
    rejected = [(row, "single element: its formation energy is zero by definition") for row in lowest.row[single]]
    training = is_training & ~single
    if not training.any():
        raise InputError("no training row is left after cleaning; check the split and the energies of the table")
    low, high = outlier_range(lowest.energy[training], sigmas)
    outlier = ~single & ((lowest.energy < low) | (lowest.energy > high))
    rejected += [
        (
            row,
            f"outlier: {energy:.3f} eV/atom is outside {low:.3f} to {high:.3f}, {sigmas:g} sigma of the training rows",
        )
        for row, energy in zip(lowest.row[outlier], lowest.energy[outlier], strict=True)
    ]
    stay = ~single & ~outlier
    counts |= {"dropped_single_element": int(single.sum()), "dropped_outlier": int(outlier.sum())}
    counts["elements_dropped"] = len(_elements_of(lowest.parsed)) - len(_elements_of(lowest.parsed.select(stay)))
    return stay, rejected


def outlier_range(energies: NDArray[np.float64], sigmas: float = OUTLIER_SIGMAS) -> tuple[float, float]:
    """ElemNet's accepted range ``mean +- sigmas * standard deviation``, eV/atom, of the training rows' energies."""
    mean, sigma = float(np.mean(energies)), float(np.std(energies))
    return mean - sigmas * sigma, mean + sigmas * sigma


def system_draw(chemsys: str, seed: int, purpose: str) -> float:
    """Draw a number in [0, 1) that depends on the arguments only: whole chemical systems share their fate."""
    digest = hashlib.blake2b(f"{purpose}:{seed}:{chemsys}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def _sound_rows(
    df: pd.DataFrame,
    references: pd.DataFrame | None,
    physical_range: tuple[float, float],
    parsed: ParsedFormulas | None,
) -> tuple[_Rows, list[tuple[int, str]], dict[str, int]]:
    """Rows that can be read and are physical, the others with a reason, and the counts so far."""
    missing = [c for c in _REQUIRED if c not in df]
    if missing:
        raise InputError(f"column {missing[0]} is missing; name it with --map {missing[0]}=<your column>")
    if len(df) == 0:
        raise InputError("the table is empty; check the source of its rows")
    parsed = parse_many(df["formula"]) if parsed is None else parsed
    if len(parsed) != len(df):
        raise InputError(f"{len(df)} rows came with {len(parsed)} parsed formulas; parse the same table")
    uncorrected = pd.to_numeric(df["formation_energy_per_atom"], errors="coerce").to_numpy(dtype=np.float64)
    correction = np.zeros(len(df))
    if references is not None:
        corrected = apply_references(df, references, parsed=parsed)
        uncorrected = corrected["formation_energy_raw"].to_numpy()
        correction = corrected["reference_correction"].to_numpy()
    energy = uncorrected - correction
    low, high = physical_range
    bad_formula = ~parsed.valid
    bad_element = bad_formula & np.array([r is not None and OUTSIDE in r for r in parsed.reason])
    bad_energy = ~bad_formula & ~np.isfinite(energy)
    bad_range = ~bad_formula & ~bad_energy & ((energy < low) | (energy > high))
    rejected = [(int(i), str(parsed.reason[i])) for i in np.flatnonzero(bad_formula)]
    rejected += [(int(i), "no finite formation energy") for i in np.flatnonzero(bad_energy)]
    rejected += [
        (int(i), f"formation energy {energy[i]:.3f} eV/atom is outside the physical range {low:g} to {high:g}")
        for i in np.flatnonzero(bad_range)
    ]
    counts = {
        "rows_in": len(df),
        "rejected_formula": int((bad_formula & ~bad_element).sum()),
        "rejected_element": int(bad_element.sum()),
        "rejected_energy": int(bad_energy.sum()),
        "rejected_range": int(bad_range.sum()),
    }
    rows = _Rows(df, np.arange(len(df)), parsed, energy, uncorrected, correction)
    return rows.keep(~(bad_formula | bad_energy | bad_range)), rejected, counts


def _merge(rows: _Rows, counts: dict[str, int]) -> tuple[pd.DataFrame, _Rows]:
    """Lowest energy per composition (the first of equal ones), in input order."""
    composition, _ = pd.factorize(np.array(rows.parsed.reduced, dtype=object))
    order = np.lexsort((rows.row, rows.energy, composition))
    lowest = order[np.flatnonzero(np.diff(composition[order], prepend=-1))]
    lowest.sort()
    mask = np.zeros(len(rows.row), dtype=np.bool_)
    mask[lowest] = True
    kept = rows.keep(mask)
    counts["merged"] = len(rows.row) - len(kept.row)
    raw = rows.raw.iloc[kept.row]
    table = pd.DataFrame(
        {
            "material_id": _material_ids(raw, kept.row),
            "formula": kept.parsed.reduced,
            "chemsys": kept.parsed.chemsys,
            "formation_energy_per_atom": kept.energy,
            "formation_energy_raw": kept.uncorrected,
            "reference_correction": kept.correction,
            "n_rows": np.bincount(composition)[composition[lowest]].astype(np.int32),
        }
    )
    for column in _CARRIED:
        if column in raw:
            table[column] = raw[column].to_numpy()
    return table, kept


def _material_ids(raw: pd.DataFrame, rows: NDArray[np.int64]) -> list[str]:
    """Take a row's own identity, else its position in the input."""
    numbered = [f"row-{row}" for row in rows]
    if "material_id" not in raw:
        return numbered
    return [str(own) if pd.notna(own) else number for own, number in zip(raw["material_id"], numbered, strict=True)]


def _splits(
    df: pd.DataFrame,
    rows: _Rows,
    kept: pd.DataFrame,
    calibration_fraction: float,
    validation_fraction: float,
    seed: int,
) -> pd.Series:
    """Split of each kept composition."""
    chemsys = kept["chemsys"]
    draws = {name: system_draw(name, seed, "calibration") for name in chemsys.unique()}
    calibration = chemsys.map(draws) < calibration_fraction
    if "split" in df:
        given = df["split"].astype(object).where(df["split"].notna(), "train")
        unknown = sorted(set(map(str, given)) - set(SPLITS))
        if unknown:
            raise InputError(f"split {unknown[0]!r} is not one of {', '.join(SPLITS)}; rename or leave out the column")
        # a composition whose rows lie on both sides is measured, never learnt
        strictness = given.map(SPLITS.index).to_numpy()[rows.row]
        strictest = pd.Series(strictness).groupby(np.array(rows.parsed.reduced, dtype=object)).max()
        split = kept["formula"].map(strictest).map(dict(enumerate(SPLITS)))
    else:
        held_out = {name: system_draw(name, seed, "validation") < validation_fraction for name in chemsys.unique()}
        split = chemsys.map(held_out).map({True: "validation", False: "train"})
    return split.mask((split == "train") & calibration, "calibration")


def _check_fractions(calibration: float, validation: float, sigmas: float) -> None:
    for name, value in (("calibration_fraction", calibration), ("validation_fraction", validation)):
        if not 0.0 <= value < 1.0:
            raise InputError(f"{name} must be at least 0 and below 1, not {value}")
    if not sigmas > 0.0:
        raise InputError(f"sigmas must be above 0, not {sigmas}")


def _elements_of(parsed: ParsedFormulas) -> set[int]:
    found = set(np.unique(parsed.elements).tolist())
    return found & set(ELEMENT_INDEX.values())


def _rejected_table(df: pd.DataFrame, rejected: list[tuple[int, str]]) -> pd.DataFrame:
    rejected = sorted((int(row), reason) for row, reason in rejected)
    raw = df.iloc[[row for row, _ in rejected]]
    records = [_record(record) for record in raw.to_dict("records")]
    return pd.DataFrame(
        {
            "row": np.array([row for row, _ in rejected], dtype=np.int64),
            "material_id": _texts(raw, "material_id"),
            "formula": _texts(raw, "formula"),
            "reason": pd.Series([reason for _, reason in rejected], dtype=object),
            "record": pd.Series(records, dtype=object),
        }
    )


def _texts(raw: pd.DataFrame, column: str) -> pd.Series:
    values = raw[column] if column in raw else [None] * len(raw)
    return pd.Series([None if _is_null(v) else str(v) for v in values], dtype=object)


def _record(record: Mapping[Any, Any]) -> str:
    """Raw row as JSON; a missing value or NaN is null, an infinity (which JSON lacks) its name."""
    clean: dict[str, Any] = {}
    for name, value in record.items():
        infinite = isinstance(value, float) and math.isinf(value)
        clean[str(name)] = None if _is_null(value) else str(value) if infinite else value
    return json.dumps(clean, default=str, ensure_ascii=False)


def _is_null(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value)) or value is pd.NA or value is pd.NaT
