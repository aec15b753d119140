"""Lists of formulas: a user's table or text -> `formula_list`, the compositions of a space that has no rule."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa

from models.composition_list import listing_reasons
from models.errors import InputError
from models.formula import ParsedFormulas, parse_many
from storage.artifact import ArtifactRef, ArtifactRequest
from storage.store import ArtifactStore, ArtifactWriter
from storage.tables import read_any, table_format
from tasks.inputs import is_file
from tasks.parameters import ScreenParameters
from tasks.stage import build, stage

STAGE_VERSION = 1

LINES = ".txt"
"""Ending of a text file with one formula per line."""


@stage("read-formulas")
def read_formulas(root: str, text: str) -> ArtifactRef:
    """Read a list: reduced formulas, each once, in the order of their first rows; what cannot be used is rejected.

    The key holds the content of the file, or of the artifact, and not its place.

    Parameters
    ----------
    root
        The store.
    text
        Table with the column `formula` or text file with one formula per line; or an artifact with such a table.
    """
    store = ArtifactStore(root)
    if is_file(text):
        path = Path(text.removeprefix("file:"))
        ending = LINES if _is_lines(path) else table_format(path)[0]
        content = {"snapshot": hashlib.sha256(path.read_bytes()).hexdigest(), "ending": ending}
        request = ArtifactRequest("formula_list", "tasks.formulas", STAGE_VERSION, content)
        return build(root, request, lambda writer: _write(writer, text, _formulas_of(path)))
    if Path(text).suffix:
        raise InputError(f"there is no file {text}; give a list of formulas, one per row or line, or an artifact's key")
    ref = store.resolve(text)
    if ref.kind == "formula_list":
        return ref
    request = ArtifactRequest("formula_list", "tasks.formulas", STAGE_VERSION, {}, {"table": ref})
    return build(root, request, lambda writer: _write(writer, text, _formula_column(store.read_table(ref), text)))


def with_lists(root: str, parameters: ScreenParameters) -> ScreenParameters:
    """Return a screen's parameters with every list read into the store, each by a task: blocks are ranges of it."""
    reading = {
        number: read_formulas.submit(root, space.formulas)
        for number, space in enumerate(parameters.spaces)
        if isinstance(space.formulas, str)
    }
    spaces = [
        space.model_copy(update={"formulas": reading[number].result()}) if number in reading else space
        for number, space in enumerate(parameters.spaces)
    ]
    return parameters.model_copy(update={"spaces": tuple(spaces)})


def _is_lines(path: Path) -> bool:
    return path.suffix.lower() == LINES


def _formulas_of(path: Path) -> list[str]:
    """Return the formulas of a file, row by row; an empty text where a row has none."""
    if not _is_lines(path):
        return _formula_column(read_any(path), str(path))
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text; save it as UTF-8") from error
    while lines and not lines[-1].strip():
        lines.pop()
    if not lines:
        raise InputError(f"{path} is empty; write one formula per line")
    return [line.strip() for line in lines]


def _formula_column(table: pa.Table, where: str) -> list[str]:
    if "formula" not in table.column_names:
        raise InputError(f"{where} has no column 'formula'; it has {', '.join(table.column_names)}")
    return ["" if value is None else str(value) for value in table.column("formula").to_pylist()]


def _write(writer: ArtifactWriter, where: str, texts: list[str]) -> None:
    """Write the compositions, the rows that cannot be screened, and the counts that account for every row."""
    parsed = parse_many(texts)
    reasons = listing_reasons(parsed)
    good = np.array([reason is None for reason in reasons], dtype=bool)
    if not good.any():
        first = "; ".join(sorted({reason for reason in reasons if reason})[:3])
        raise InputError(f"no formula in {where} can be screened: {first or 'the table is empty'}")
    rows = np.flatnonzero(good)
    writer.write_table("formula_list", _table(parsed, rows), "formula_list")
    writer.reject({"row": row, "formula": texts[row], "reason": reasons[row]} for row in np.flatnonzero(~good).tolist())
    writer.count("rows_in", len(texts))
    for arity, systems, compositions in _sizes(parsed, rows):
        writer.count(f"systems_{arity}", systems)
        writer.count(f"compositions_{arity}", compositions)


def _table(parsed: ParsedFormulas, rows: np.ndarray) -> pa.Table:
    used = parsed.elements[rows] >= 0
    offsets = pa.array(np.concatenate([[0], np.cumsum(used.sum(axis=1))]), pa.int32())
    return pa.table(
        {
            "row": rows,
            "formula": pa.array([parsed.reduced[row] for row in rows], pa.string()),
            "chemsys": pa.array([parsed.chemsys[row] for row in rows], pa.string()),
            "arity": parsed.arity[rows].astype(np.int8),
            "elements": pa.ListArray.from_arrays(offsets, pa.array(parsed.elements[rows][used], pa.int16())),
            "counts": pa.ListArray.from_arrays(offsets, pa.array(parsed.amounts[rows][used].astype(np.int16))),
        }
    )


def _sizes(parsed: ParsedFormulas, rows: np.ndarray) -> list[tuple[int, int, int]]:
    """Arity, chemical systems and compositions of it."""
    sizes = []
    for arity in np.unique(parsed.arity[rows]).tolist():
        mine = rows[parsed.arity[rows] == arity]
        sizes.append((arity, len({parsed.chemsys[row] for row in mine}), len(mine)))
    return sizes
