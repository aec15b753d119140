"""Ingest: a source -> `compounds`, with every row that cannot be used kept under `rejected/`."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from models.crystals import structure_json
from models.errors import InputError
from models.formula import parse_many
from models.structures import parse_structure
from storage.artifact import ArtifactRef, ArtifactRequest
from storage.schemas import SCHEMAS, conform
from storage.scheme import EnergyScheme
from storage.store import ArtifactWriter
from tasks.fanout import fan_out
from tasks.parameters import SourceParameters
from tasks.sources.file import fingerprint, read
from tasks.sources.starter import read_starter, starter_manifest
from tasks.stage import build, stage

STAGE_VERSION = 1

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


@stage("ingest")
def ingest(root: str, parameters: SourceParameters) -> ArtifactRef:
    """Read one source into the store.

    The key holds the content of the source (a file's SHA-256, the starter set's digest), not its place: the same
    bytes under another path are the same artifact.
    """
    return build(root, ingest_request(parameters), lambda writer: _write(writer, parameters))


def ingest_request(parameters: SourceParameters) -> ArtifactRequest:
    """Return what the `compounds` artifact of a source is made from."""
    if parameters.source == "starter":
        manifest = starter_manifest()
        scheme = EnergyScheme(**manifest["energy_scheme"])
        description: dict[str, Any] = {"source": "starter", "snapshot": manifest["digest"]}
    else:
        path = parameters.source.removeprefix("file:")
        scheme = EnergyScheme(
            source=parameters.database,
            release=parameters.release,
            functional=parameters.functional or "unstated",
            corrections=parameters.corrections,
        )
        description = parameters.model_dump(exclude={"source"}) | {
            "source": "file",
            "file": Path(path).name,
            "snapshot": fingerprint(path),
        }
    return ArtifactRequest("compounds", "tasks.ingest", STAGE_VERSION, description, {}, energy_scheme=scheme)


def _write(writer: ArtifactWriter, parameters: SourceParameters) -> None:
    if parameters.source == "starter":
        table = read_starter()
        n_rows, rejected = table.num_rows, list[dict[str, Any]]()
    else:
        frame = read(parameters.source.removeprefix("file:"), parameters.columns)
        n_rows = len(frame)
        table, rejected = compounds(frame, parameters)
    writer.count("rows_in", n_rows)
    writer.count("rows_kept", table.num_rows)
    writer.count("rows_rejected", len(rejected))
    if table.num_rows == 0:
        reasons = "; ".join(sorted({row["reason"] for row in rejected})[:3])
        raise InputError(f"no usable row in {parameters.source}: {reasons or 'the table is empty'}")
    writer.write_table("compounds", table, "compounds")
    if rejected:
        writer.reject(rejected)


def compounds(frame: pd.DataFrame, parameters: SourceParameters) -> tuple[pa.Table, list[dict[str, Any]]]:
    """Return the usable rows of a raw table as `compounds`, and the others with their reason.

    Parameters
    ----------
    frame
        Raw rows with our column names; columns of no use to us are left behind.
    parameters
        Names the database, its release and the functional of rows that do not say so themselves.

    Returns
    -------
    table, rejected
        `compounds` rows in the file's order; rejected rows (`row`, `material_id`, `formula`, `reason`, `record`).
    """
    frame = frame.reset_index(drop=True)
    parsed = parse_many(["" if _missing(value) else str(value) for value in frame["formula"]])
    reasons: list[str | None] = list(parsed.reason)
    data: dict[str, Sequence[Any]] = {"formula": parsed.reduced, "chemsys": parsed.chemsys}
    for name in _NUMBERS:
        if name in frame.columns:
            data[name] = _numbers(frame[name], name, reasons)
    if "structure" in frame.columns:
        data["structure"] = _structures(frame["structure"], reasons)
    if "elastic_tensor" in frame.columns:
        data["elastic_tensor"] = _tensors(frame["elastic_tensor"], reasons)
    for name in ("material_id", "source_id", "prototype", "split", *_PROVENANCE):
        if name in frame.columns and name not in _NUMBERS:
            data[name] = [None if _missing(value) else str(value) for value in frame[name]]
    table = _with_provenance(data, len(frame), parameters)
    good = [index for index, reason in enumerate(reasons) if reason is None]
    rejected = [_rejected_row(frame, index, reason) for index, reason in enumerate(reasons) if reason is not None]
    return conform(table.take(pa.array(good, pa.int64())), "compounds"), rejected


def _with_provenance(data: dict[str, Sequence[Any]], n_rows: int, parameters: SourceParameters) -> pa.Table:
    """Fill identifiers and provenance that the rows do not bring themselves."""

    def filled(name: str, default: Sequence[str | None]) -> list[Any]:
        own = data.get(name)
        return list(default) if own is None else [d if v is None else v for v, d in zip(own, default, strict=True)]

    numbered = [f"{parameters.database}-{row:07d}" for row in range(n_rows)]
    identifiers = filled("material_id", data.get("source_id") or numbered)
    identifiers = [number if value is None else value for value, number in zip(identifiers, numbered, strict=True)]
    data["material_id"] = identifiers
    data["source_id"] = filled("source_id", identifiers)
    data["source"] = filled("source", [parameters.database] * n_rows)
    data["source_version"] = filled("source_version", [parameters.release] * n_rows)
    data["functional"] = filled("functional", [parameters.functional] * n_rows)
    if "temperature" not in data:
        data["temperature"] = [parameters.temperature] * n_rows
    schema = SCHEMAS["compounds"].arrow
    return pa.table({name: pa.array(values, schema.field(name).type) for name, values in data.items()})


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value)) or value is pd.NA


def _numbers(column: pd.Series, name: str, reasons: list[str | None]) -> list[float | None]:
    """Return a column as numbers; what is stated but no finite number is a reason to reject the row."""
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
        structure = parse_structure(str(text))
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
    record = {str(name): None if _missing(value) else value for name, value in frame.iloc[index].items()}
    return {
        "row": index,
        "material_id": None if record.get("material_id") is None else str(record["material_id"]),
        "formula": None if record.get("formula") is None else str(record["formula"]),
        "reason": reason,
        "record": json.dumps(record, default=str),
    }
