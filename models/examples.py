"""Rows to learn any property from: one per composition, with a label for each target and a split.

Formation energies of one database go through `models.cleaning.training_table`, with ElemNet's rules. Here are the
others: measured energies, band gaps, volumes, classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from models.cleaning import SPLITS, system_draw
from models.errors import InputError
from models.formula import ParsedFormulas, parse_many

_ENERGY = "formation_energy_per_atom"


def examples_table(
    rows: pd.DataFrame,
    targets: Sequence[str],
    *,
    above: float | None = None,
    log10: bool = False,
    keep_elements: bool = False,
    physical_range: tuple[float, float] | None = None,
    calibration_fraction: float = 0.05,
    validation_fraction: float = 0.1,
    seed: int = 0,
) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, int]]:
    """Choose rows, labels and splits.

    Parameters
    ----------
    rows
        Columns ``material_id``, ``formula``, the targets and, where they are there, ``formation_energy_per_atom``
        (the row of the lowest stands for its composition, else the first) and ``split``.
    targets
        Columns with labels; a row needs one of them at least.
    above
        Two classes instead of numbers: 1 where the (only) target is larger than this, 0 elsewhere.
    log10
        The logarithm of the targets; a row with one that is not positive is rejected.
    keep_elements, physical_range
        Keep rows of a single element; accepted labels.
    calibration_fraction, validation_fraction
        Parts of the rows, by whole chemical systems; the latter only where rows state no split.
    seed
        Of the split.

    Returns
    -------
    tuple
        The rows kept (``labels`` is an array with NaN for what is missing), the rows rejected with a ``reason``, and
        the counts ``rows``, ``rejected``, ``merged`` and ``kept``: rows = rejected + merged + kept.

    Raises
    ------
    InputError
        A target holds no numbers, nothing is left, or classes are asked of several targets.
    """
    if above is not None and len(targets) != 1:
        raise InputError(f"classes are made of one column, not of {len(targets)}; name one target")
    values, rows = _values(rows, targets), rows.reset_index(drop=True)
    parsed = parse_many([str(text) for text in rows["formula"]])
    values, reasons = _logarithms(values, _reasons(parsed, values, targets, physical_range, keep_elements), log10)
    sound = np.array([reason is None for reason in reasons], dtype=bool)
    rejected = _rejected(rows, reasons)
    kept = pd.DataFrame({"row": np.flatnonzero(sound), "material_id": rows["material_id"].to_numpy()[sound]})
    kept["formula"], kept["chemsys"] = (np.array(n, dtype=object)[sound] for n in (parsed.reduced, parsed.chemsys))
    first = _first_of_each(kept, rows)
    counts = {"rows": len(rows), "rejected": len(rejected), "merged": len(kept) - len(first), "kept": len(first)}
    if len(first) == 0:
        raise InputError(f"no row is left to learn {', '.join(targets)} from; the first was refused as: {reasons[0]}")
    chosen = kept.loc[first].reset_index(drop=True)
    chosen["split"] = _splits(kept, rows, first, calibration_fraction, validation_fraction, seed)
    chosen["labels"] = list(_labels(values[chosen["row"].to_numpy()], above))
    return chosen.drop(columns="row"), rejected, counts


def _reasons(
    parsed: ParsedFormulas,
    values: NDArray[np.float64],
    targets: Sequence[str],
    physical_range: tuple[float, float] | None,
    keep_elements: bool,
) -> list[str | None]:
    """Return why each row cannot be used; None where it can."""
    missing: NDArray[Any] = np.all(np.isnan(values), axis=1, keepdims=True)[:, 0]
    low, high = physical_range or (-np.inf, np.inf)
    outside: NDArray[Any] = np.any((values < low) | (values > high), axis=1, keepdims=True)[:, 0]
    reasons = list(parsed.reason)
    for row, reason in enumerate(reasons):
        if reason is not None:
            continue
        if missing[row]:
            reasons[row] = f"no {' and no '.join(targets)}"
        elif outside[row]:
            reasons[row] = f"outside the accepted range, {low:g} to {high:g}"
        elif parsed.arity[row] == 1 and not keep_elements:
            reasons[row] = "a single element"
    return reasons


def _logarithms(
    values: NDArray[np.float64], reasons: list[str | None], wanted: bool
) -> tuple[NDArray[np.float64], list[str | None]]:
    """Take logarithms, where they are wanted; rows with a value that has none get a reason."""
    if not wanted:
        return values, reasons
    flawed: NDArray[Any] = np.any(values <= 0, axis=1, keepdims=True)[:, 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log10(values)
    why = "not positive: it has no logarithm"
    return logs, [reason or (why if bad else None) for reason, bad in zip(reasons, flawed, strict=True)]


def _rejected(rows: pd.DataFrame, reasons: Sequence[str | None]) -> pd.DataFrame:
    places = np.array([row for row, reason in enumerate(reasons) if reason is not None], dtype=np.int64)
    rejected = rows.loc[places, ["material_id", "formula"]].reset_index(drop=True)
    rejected.insert(0, "row", places)
    rejected["reason"] = [reason for reason in reasons if reason is not None]
    return rejected


def _labels(values: NDArray[np.float64], above: float | None) -> NDArray[np.float64]:
    """Return the values (n, k), or 0 and 1 of classes; NaN stays."""
    return values if above is None else np.where(np.isnan(values), np.nan, (values > above).astype(np.float64))


def _values(rows: pd.DataFrame, targets: Sequence[str]) -> NDArray[np.float64]:
    """Return the targets (n, k); infinities and what is no number are missing."""
    columns = []
    for name in targets:
        if name not in rows:
            raise InputError(f"the table has no column '{name}'; it has {', '.join(map(str, rows.columns))}")
        values = pd.to_numeric(rows[name], errors="coerce").to_numpy(dtype=np.float64)
        values = np.where(np.isfinite(values), values, np.nan)
        if np.isnan(values).all():
            raise InputError(f"column '{name}' holds no number; map the column that does with --map COLUMN={name}")
        columns.append(values)
    return np.column_stack(columns)


def _first_of_each(kept: pd.DataFrame, rows: pd.DataFrame) -> NDArray[np.int64]:
    """Return the places in `kept` of the row that stands for each composition, in input order."""
    energy = np.full(len(kept), 0.0)
    if _ENERGY in rows:
        energy = pd.to_numeric(rows[_ENERGY], errors="coerce").to_numpy(dtype=np.float64)[kept["row"].to_numpy()]
    order = np.lexsort((kept["row"].to_numpy(), np.nan_to_num(energy, nan=np.inf)))
    first = ~kept["formula"].iloc[order].duplicated().to_numpy()
    return np.sort(order[first])


def _splits(
    kept: pd.DataFrame,
    rows: pd.DataFrame,
    first: NDArray[np.int64],
    calibration_fraction: float,
    validation_fraction: float,
    seed: int,
) -> list[str]:
    chemsys = kept["chemsys"].iloc[first]
    draws = {
        name: (system_draw(name, seed, "validation"), system_draw(name, seed, "calibration"))
        for name in chemsys.unique()
    }
    if "split" in rows and rows["split"].notna().any():
        given = rows["split"].astype(object).where(rows["split"].notna(), "train").iloc[kept["row"]].to_numpy()
        if unknown := sorted(set(map(str, given)) - set(SPLITS)):
            raise InputError(f"split {unknown[0]!r} is not one of {', '.join(SPLITS)}; rename or leave out the column")
        # a composition whose rows lie on both sides is measured, never learnt
        strictest = pd.Series([SPLITS.index(name) for name in given]).groupby(kept["formula"].to_numpy()).max()
        split = [SPLITS[strictest[name]] for name in kept["formula"].iloc[first]]
    else:
        split = ["validation" if draws[name][0] < validation_fraction else "train" for name in chemsys]
    return [
        "calibration" if part == "train" and draws[name][1] < calibration_fraction else part
        for part, name in zip(split, chemsys, strict=True)
    ]
