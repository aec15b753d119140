"""Columns added to a user's table: predictions, hull energies, stability. No Prefect task: a table in, a table out.

Every function leaves rows that it cannot use in place, with empty values and the reason in the column `reason`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from models.electrodeposition import invalid_reasons, stability_parameter
from models.errors import InputError
from models.formula import ParsedFormulas, parse_many
from models.representation import FROM_STRUCTURE
from models.stability_sampling import chi_distribution
from models.structures import parse_structures
from models.volume_ratio import volume_ratios
from storage.artifact import ArtifactRef, ArtifactRequest
from storage.scheme import check_same_scheme
from storage.store import ArtifactStore, ArtifactWriter
from tasks.inputs import as_model, as_phases, as_table
from tasks.loading import load_card, load_hull
from tasks.predicted_columns import predicted_columns, require_formulas


@dataclass(frozen=True)
class AddedColumns:
    """A table with the columns that a command added.

    Attributes
    ----------
    table
        The rows.
    stage
        What was added, for the artifact.
    inputs
        Artifacts that went into the columns.
    """

    table: pa.Table
    stage: str
    inputs: dict[str, ArtifactRef]


def store_rows(root: str, rows: AddedColumns) -> ArtifactRef:
    """Keep a command's table as an artifact of kind `table`, keyed by its content."""
    sink = pa.BufferOutputStream()
    pq.write_table(rows.table, sink, compression="zstd")
    data = sink.getvalue().to_pybytes()
    content = {"content": hashlib.sha256(data).hexdigest()}
    request = ArtifactRequest("table", f"tasks.tables.{rows.stage}", 1, content, rows.inputs)
    return ArtifactStore(root).get_or_build(request, lambda writer: _keep(writer, data, rows.table.num_rows)).ref


def _keep(writer: ArtifactWriter, data: bytes, n_rows: int) -> None:
    writer.write_bytes("table.parquet", data)
    writer.count("rows", n_rows)


def _column(table: pa.Table, name: str, what: str) -> pa.ChunkedArray:
    if name not in table.column_names:
        raise InputError(
            f"the table has no column '{name}', which {what} needs; it has {', '.join(table.column_names)}"
        )
    if table.num_rows == 0:
        raise InputError("the table has no rows; give one with at least one row")
    return table.column(name)


def _formulas(table: pa.Table, what: str) -> ParsedFormulas:
    texts = _column(table, "formula", what).to_pylist()
    return parse_many(["" if text is None else str(text) for text in texts])


def _with(table: pa.Table, columns: dict[str, object], reasons: list[str | None]) -> pa.Table:
    """Add columns, replacing those of the same name; `reason` only where there is one."""
    added = dict(columns)
    if any(reason is not None for reason in reasons):
        added["reason"] = pa.array(reasons, pa.string())
    for name, values in added.items():
        array = values if isinstance(values, pa.Array) else _numbers(np.asarray(values))
        table = table.drop_columns([name]) if name in table.column_names else table
        table = table.append_column(name, array)
    return table


def _numbers(values: NDArray[np.generic]) -> pa.Array:
    return pa.array(values, mask=np.isnan(values)) if values.dtype.kind == "f" else pa.array(values)


def predict_table(root: str, model: str, table: str, allow_mixed: bool) -> AddedColumns:
    """Add what a model predicts, on the scale of the data that it learned from; see `predicted_columns`.

    A model of structural attributes computes them from the table's structures.
    """
    ref = as_model(root, model)
    reads_structures = load_card(ref).features in FROM_STRUCTURE
    if not reads_structures:
        require_formulas(ref)
    rows, scheme = as_table(root, table)
    mixed = False
    if scheme is not None:
        mixed = check_same_scheme(load_card(ref).energy_scheme, scheme, "model and table", allow_mixed)
    parsed = _formulas(rows, "predict")
    reasons, structural = list(parsed.reason), None
    if reads_structures:
        from tasks.structural_rows import attributes_of, structures_of  # most models read formulas

        structural, others = attributes_of(structures_of(rows))
        reasons = [own or other for own, other in zip(reasons, others, strict=True)]
    good = np.array([reason is None for reason in reasons])
    columns: dict[str, object] = {}
    if not good.any():
        columns = {name: np.full(len(good), np.nan) for name in ("prediction", "prediction_std", "applicability")}
    else:
        read = None if structural is None else structural[good]
        for name, values in predicted_columns(ref, parsed.select(good), read).items():
            column = np.full(len(good), np.nan)
            column[good] = values
            columns[name] = column
    if mixed:
        columns["mixed_scheme"] = np.full(len(good), True)
    return AddedColumns(_with(rows, columns, reasons), "predict", {"model": ref})


def hull_table(root: str, phases: str, table: str, allow_mixed: bool) -> AddedColumns:
    """Add `hull_energy_per_atom`, `energy_above_hull` and `decomposition_energy` [eV/atom]."""
    ref = as_phases(root, phases)
    rows, scheme = as_table(root, table)
    mixed = False
    if scheme is not None:
        mixed = check_same_scheme(
            ArtifactStore(root).manifest(ref).energy_scheme, scheme, "phases and table", allow_mixed
        )
    parsed = _formulas(rows, "hull")
    energy = pd.to_numeric(_column(rows, "formation_energy_per_atom", "hull").to_pandas(), errors="coerce").to_numpy(
        float
    )
    reasons = [
        reason or (None if np.isfinite(value) else "formation_energy_per_atom is not a finite number")
        for reason, value in zip(parsed.reason, energy, strict=True)
    ]
    good = np.array([reason is None for reason in reasons])
    hull, decomposition = np.full(len(good), np.nan), np.full(len(good), np.nan)
    if good.any():
        engine = load_hull(ref)
        hull[good] = engine.energy_many(parsed.fractions[good])
        decomposition[good] = engine.decomposition_energy(parsed.fractions[good], energy[good])
    columns: dict[str, object] = {
        "hull_energy_per_atom": hull,
        "energy_above_hull": energy - hull,
        "decomposition_energy": decomposition,
    }
    if mixed:
        columns["mixed_scheme"] = np.full(len(good), True)
    return AddedColumns(_with(rows, columns, reasons), "hull", {"phases": ref})


def stability_table(root: str, table: str) -> AddedColumns:
    """Add `volume_ratio` where it is missing, `chi` [kJ/mol/nm], `lambda_crit_nm` and `probability_stable`."""
    rows, _ = as_table(root, table)
    bulk, shear = (
        pd.to_numeric(_column(rows, name, "stability").to_pandas(), errors="coerce").to_numpy(float)
        for name in ("bulk_modulus_vrh", "shear_modulus_vrh")
    )
    ratio, ratio_reasons = _volume_ratio(rows)
    reasons = [a or b for a, b in zip(ratio_reasons, invalid_reasons(bulk, shear, ratio), strict=True)]
    result = stability_parameter(bulk, shear, ratio)
    stds = [
        pd.to_numeric(rows.column(name).to_pandas(), errors="coerce").fillna(0.0).to_numpy(float)
        if name in rows.column_names
        else np.zeros(len(bulk))
        for name in ("log10_bulk_modulus_std", "log10_shear_modulus_std")
    ]
    spread = chi_distribution(bulk, shear, ratio, stds[0], stds[1])
    columns: dict[str, object] = {
        "volume_ratio": ratio,
        "chi": result.chi,
        "lambda_crit_nm": result.lambda_crit_nm,
        "probability_stable": spread.probability_stable,
    }
    return AddedColumns(_with(rows, columns, reasons), "stability", {})


def _volume_ratio(rows: pa.Table) -> tuple[NDArray[np.float64], list[str | None]]:
    """Return the stated volume ratio of each row, computed from the structure where none is stated."""
    n = rows.num_rows
    ratio = np.full(n, np.nan)
    if "volume_ratio" in rows.column_names:
        ratio = pd.to_numeric(rows.column("volume_ratio").to_pandas(), errors="coerce").to_numpy(float).copy()
    name = next((name for name in ("structure", "cif") if name in rows.column_names), None)
    if name is None:
        if "volume_ratio" not in rows.column_names:
            raise InputError("the table has neither 'structure' nor 'volume_ratio'; stability needs one of them")
        return ratio, [None] * n
    missing = np.flatnonzero(np.isnan(ratio))
    texts = rows.column(name).to_pylist()
    structures, reasons = parse_structures([texts[row] or "" for row in missing])
    computed = volume_ratios(structures)
    ratio[missing] = computed.values
    all_reasons: list[str | None] = [None] * n
    for row, first, second in zip(missing, reasons, computed.reasons, strict=True):
        all_reasons[row] = first or second
    return ratio, all_reasons
