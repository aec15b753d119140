"""Tables from a user's file: CSV, JSON, JSON lines or Parquet, with any column names."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from models.errors import InputError
from storage.schemas import SCHEMAS
from storage.tables import read_any

#: Names that files in the wild use for a structure; they are read without a `--map`.
STRUCTURE_COLUMNS = ("structure", "cif", "cif_text")


def fingerprint(path: str) -> str:
    """Return the SHA-256 of a file: the snapshot that an ingest of it is keyed by."""
    file = Path(path)
    if not file.is_file():
        raise InputError(f"no file at {path}; check the path of --source file:PATH")
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def read(path: str, columns: Mapping[str, str], identities: str | None = None) -> pd.DataFrame:
    """Read a file and give its columns our names.

    Parameters
    ----------
    path
        The file.
    columns
        The file's column -> ours (a column of the `compounds` table).
    identities
        A table with ``material_id`` and ``formula`` for a file that has only identifiers.

    Returns
    -------
    DataFrame
        All rows of the file, in its order, with every column it has.

    Raises
    ------
    InputError
        When a mapped column is not in the file, a target is not a column of ours, or no formula can be had.
    """
    frame: pd.DataFrame = read_any(path).to_pandas()
    known = set(SCHEMAS["compounds"].arrow.names)
    for theirs, ours in columns.items():
        if theirs not in frame.columns:
            raise InputError(f"{path} has no column '{theirs}'; it has {', '.join(map(str, frame.columns))}")
        if ours not in known:
            raise InputError(f"'{ours}' is not a column of ours; map to one of {', '.join(sorted(known))}")
    frame = frame.rename(columns=dict(columns))
    if not frame.columns.is_unique:
        doubled = sorted({str(c) for c in frame.columns[frame.columns.duplicated()]})
        raise InputError(f"{path}: --map gives two columns the name {', '.join(doubled)}; map one of them elsewhere")
    if "structure" not in frame.columns:
        for name in STRUCTURE_COLUMNS[1:]:
            if name in frame.columns:
                frame = frame.rename(columns={name: "structure"})
                break
    if "formula" not in frame.columns and identities is not None:
        return _with_formulas(frame, path, identities)
    if "formula" not in frame.columns:
        raise InputError(
            f"{path} has no column 'formula'; name the one that holds it with --map COLUMN=formula, or a table "
            "that has formulas for its material_id with --identities FILE "
            f"(it has {', '.join(map(str, frame.columns))})"
        )
    return frame


def _with_formulas(frame: pd.DataFrame, path: str, identities: str) -> pd.DataFrame:
    """Return a table that has identifiers with the formulas that another table has for them."""
    other: pd.DataFrame = read_any(identities).to_pandas()
    for where, table, wanted in ((path, frame, ("material_id",)), (identities, other, ("material_id", "formula"))):
        for name in wanted:
            if name not in table.columns:
                raise InputError(f"{where} has no column '{name}', which --identities goes by; give one that has it")
    formulas = other.drop_duplicates("material_id").set_index("material_id")["formula"]
    known = dict(zip(formulas.index, formulas, strict=True))
    found = [known.get(name) for name in frame["material_id"]]
    lacking = f"{Path(identities).name} has no formula for this material_id"
    reasons = [lacking if formula is None else None for formula in found]
    return frame.assign(formula=pd.Series(found, frame.index), _reason=pd.Series(reasons, frame.index, dtype=object))
