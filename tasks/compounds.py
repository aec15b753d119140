"""Raw rows of any source -> `compounds`, with every row that cannot be used and its reason."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from models.crystals import structure_json
from models.errors import InputError
from models.formula import parse_many
from models.structures import parse_structure
from storage.schemas import SCHEMAS, conform
from tasks.fanout import fan_out
from tasks.further_columns import further_numbers, further_table

_NUMBERS = (
    "formation_energy_per_atom",
    "energy_above_hull",
    "band_gap",
    "volume_per_atom",
    "bulk_modulus_vrh",
    "shear_modulus_vrh",
    "bulk_modulus_vrh_raw",
    "shear_modulus_vrh_raw",
    "volume_ratio",
    "temperature",
)
_PROVENANCE = ("source", "source_version", "functional", "temperature")
_TEXTS = ("material_id", "source_id", "prototype", "split", "license", "reference")


@dataclass(frozen=True)
class Provenance:
    """What rows that do not say so themselves are, and how rows that occur twice are told apart.

    Attributes
    ----------
    source, version, functional, temperature
        Database, its release, the functional, the temperature of measured values [K].
    lowest_per_id
        Of rows with one identifier the one with the lowest energy is kept and the others are merged into it (services,
        where an entry may have several calculations). Otherwise (files) only rows that are equal in everything we keep
        are merged, and a row that has an identifier again with other values is rejected.
    """

    source: str
    version: str
    functional: str | None = None
    temperature: float | None = None
    lowest_per_id: bool = False


@dataclass(frozen=True)
class Compounds:
    """`compounds` rows in the input's order, rejected rows, and how many were merged into others.

    Rows in = rows of the table + rejected + merged. `further` has the columns that are none of ours and were asked for.
    """

    table: pa.Table
    rejected: list[dict[str, Any]]
    n_merged: int
    further: pa.Table | None = None


def compounds(frame: pd.DataFrame, provenance: Provenance, further: Sequence[str] = ()) -> Compounds:
    """Return the usable rows of a raw table as `compounds`, and the others with their reason.

    Parameters
    ----------
    frame
        Raw rows with our column names; columns of no use to us are left behind. ``_reason``: why a row cannot be used;
        ``_same_as``: the material_id of the row that it repeats.
    provenance
        What the rows do not say themselves.
    further
        Columns to keep that are none of ours: of numbers, or of yes and no. What is neither is missing there, and no
        reason to reject a row.

    Raises
    ------
    InputError
        If such a column holds no number at all.
    """
    frame = frame.reset_index(drop=True)
    parsed = parse_many(["" if _missing(value) else str(value) for value in frame["formula"]])
    reasons: list[str | None] = list(parsed.reason)
    if "_reason" in frame.columns:
        reasons = [
            own if isinstance(own, str) else reason for own, reason in zip(frame["_reason"], reasons, strict=True)
        ]
    data: dict[str, Sequence[Any]] = {"formula": parsed.reduced, "chemsys": parsed.chemsys}
    for name in _NUMBERS:
        if name in frame.columns:
            data[name] = _numbers(frame[name], name, reasons)
    if "structure" in frame.columns:
        data["structure"] = _structures(frame["structure"], reasons)
    if "elastic_tensor" in frame.columns:
        data["elastic_tensor"] = _tensors(frame["elastic_tensor"], reasons)
    for name in (*_TEXTS, *_PROVENANCE):
        if name in frame.columns and name not in _NUMBERS:
            data[name] = [None if _missing(value) else str(value) for value in frame[name]]
    named = "material_id" in data or "source_id" in data
    others = {name: further_numbers(frame[name], name) for name in further}
    table = _with_provenance(data, len(frame), provenance)
    merged = _repeats(table, frame, reasons, provenance, named, others)
    good = [index for index, reason in enumerate(reasons) if reason is None and not merged[index]]
    rejected = [_rejected_row(frame, index, reason) for index, reason in enumerate(reasons) if reason is not None]
    kept = conform(table.take(pa.array(good, pa.int64())), "compounds")
    return Compounds(kept, rejected, int(merged.sum()), further_table(others, good) if others else None)


def raw_frame(rows: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """Return the rows of a database as a raw table, in the order of their names: it may list them in any."""
    ordered = sorted(rows, key=lambda row: (len(str(row["material_id"])), str(row["material_id"])))  # mp-2, mp-10
    names = dict.fromkeys(name for row in ordered for name in row)
    frame = pd.DataFrame({name: [row.get(name) for row in ordered] for name in names}, dtype=object)
    return frame if "formula" in frame.columns else frame.assign(formula=None)


def _repeats(
    table: pa.Table,
    frame: pd.DataFrame,
    reasons: list[str | None],
    provenance: Provenance,
    named: bool,
    others: Mapping[str, Sequence[float | None]],
) -> NDArray[np.bool_]:
    """Return which sound rows repeat another, by the source's rule; what contradicts another gets its reason."""
    sound = np.array([reason is None for reason in reasons])
    merged = np.zeros(len(frame), dtype=bool)
    rows = np.flatnonzero(sound)
    if provenance.lowest_per_id:
        ids = table.column("material_id").to_pandas()
        energies = pd.Series(np.nan, index=ids.index)
        if "formation_energy_per_atom" in table.column_names:
            energies = table.column("formation_energy_per_atom").to_pandas().astype(float)
        order = pd.DataFrame({"id": ids, "energy": energies}).iloc[rows].sort_values("energy", kind="stable")
        merged[order.index[order.duplicated("id")]] = True
        if "_same_as" in frame.columns:
            there = np.flatnonzero(sound & ~merged)
            twins = dict(zip(ids.iloc[there], frame["_same_as"].iloc[there], strict=True))
            merged[[row for row in there if _first_of(ids.iloc[row], twins) != ids.iloc[row]]] = True
        return merged
    identifiers = ("material_id", "source_id")
    compared = [name for name in table.column_names if named or name not in identifiers]
    values = table.select(compared).to_pandas().assign(**others).iloc[rows].copy()
    for name in values.columns:
        if values[name].dtype == object:
            values[name] = [value.tobytes() if isinstance(value, np.ndarray) else value for value in values[name]]
    equal = values.duplicated().to_numpy()
    merged[rows[equal]] = True
    if named:
        first: dict[str, int] = {}
        names = table.column("material_id").to_pylist()
        for row in rows[~equal]:
            other = first.setdefault(names[row], int(row))
            if other != row:
                reasons[row] = f"material_id {names[row]} occurs again with other values (first in row {other})"
    return merged


def _first_of(name: str, twins: dict[str, Any]) -> str:
    """Return the end of a chain of duplicates among the rows that are there; of a circle the smallest name."""
    chain = [name]
    while (twin := twins.get(chain[-1])) in twins:
        if twin in chain:
            return min(chain[chain.index(twin) :])
        chain.append(twin)
    return chain[-1]


def _with_provenance(data: dict[str, Sequence[Any]], n_rows: int, provenance: Provenance) -> pa.Table:
    """Fill identifiers and provenance that the rows do not bring themselves."""

    def filled(name: str, default: Sequence[str | None]) -> list[Any]:
        own = data.get(name)
        return list(default) if own is None else [d if v is None else v for v, d in zip(own, default, strict=True)]

    numbered = [f"{provenance.source}-{row:07d}" for row in range(n_rows)]
    identifiers = filled("material_id", data.get("source_id") or numbered)
    identifiers = [number if value is None else value for value, number in zip(identifiers, numbered, strict=True)]
    data["material_id"] = identifiers
    data["source_id"] = filled("source_id", identifiers)
    data["source"] = filled("source", [provenance.source] * n_rows)
    data["source_version"] = filled("source_version", [provenance.version] * n_rows)
    data["functional"] = filled("functional", [provenance.functional] * n_rows)
    if "temperature" not in data:
        data["temperature"] = [provenance.temperature] * n_rows
    schema = SCHEMAS["compounds"].arrow
    return pa.table({name: pa.array(values, schema.field(name).type) for name, values in data.items()})


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value)) or value is pd.NA


def _numbers(column: pd.Series, name: str, reasons: list[str | None]) -> list[float | None]:
    """Return a column as numbers; what is stated but no finite number is a reason to reject the row."""
    if column.dtype == object:  # a service may send anything
        column = column.map(lambda value: "?" if isinstance(value, dict | list | tuple | bool) else value)
    values = pd.to_numeric(column, errors="coerce").to_numpy(float)
    stated = ~column.isna().to_numpy()
    out: list[float | None] = []
    for index, value in enumerate(values):
        if math.isfinite(value):
            out.append(float(value))
            continue
        out.append(None)
        if stated[index] and reasons[index] is None:
            reasons[index] = f"{name} is not a finite number"
    return out


def _structure_json(text: Any) -> tuple[str | None, str | None]:
    """Return a structure as compact pymatgen JSON, or the reason why it is none."""
    if _missing(text):
        return None, None
    try:
        structure = parse_structure(json.dumps(text) if isinstance(text, dict) else str(text))
    except InputError as error:
        return None, str(error)
    return structure_json(structure, decimals=8), None


def _structures(column: pd.Series, reasons: list[str | None]) -> list[str | None]:
    """Return structures (CIF, POSCAR or pymatgen JSON in) as pymatgen JSON; fanned out, since a CIF takes 10 ms."""
    out: list[str | None] = []
    for index, (structure, reason) in enumerate(fan_out(_structure_json, list(column), "reading structures")):
        out.append(structure)
        if reason is not None and reasons[index] is None:
            reasons[index] = f"structure: {reason}"
    return out


def _tensors(column: pd.Series, reasons: list[str | None]) -> list[list[float] | None]:
    """Return elastic tensors (6x6 lists or JSON, GPa) as 36 numbers row by row."""
    out: list[list[float] | None] = []
    for index, value in enumerate(column):
        if (isinstance(value, float) and math.isnan(value)) or value is None:
            out.append(None)
            continue
        try:
            rows = json.loads(value) if isinstance(value, str) else value
            flat = [float(x) for row in rows for x in (row if hasattr(row, "__len__") else [row])]
        except (ValueError, TypeError):
            flat = []
        if len(flat) == 36 and all(map(math.isfinite, flat)):
            out.append(flat)
        else:
            out.append(None)
            reasons[index] = reasons[index] or "elastic_tensor is not a 6x6 table of finite numbers"
    return out


def _rejected_row(frame: pd.DataFrame, index: int, reason: str) -> dict[str, Any]:
    record = {
        str(name): None if _missing(value) else value
        for name, value in frame.iloc[index].items()
        if not str(name).startswith("_")
    }
    return {
        "row": index,
        "material_id": None if record.get("material_id") is None else str(record["material_id"]),
        "formula": None if record.get("formula") is None else str(record["formula"]),
        "reason": reason,
        "record": json.dumps(record, default=str),
    }
