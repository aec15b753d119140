"""Columns of a file that are none of ours: kept beside the compounds, found again by their names."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import pyarrow as pa

from models.errors import InputError
from storage.artifact import ArtifactRef
from storage.schemas import SCHEMAS
from storage.store import ArtifactStore

TABLE = "further_columns"
YES_AND_NO = {"true": 1.0, "yes": 1.0, "false": 0.0, "no": 0.0}
"""Words, and how they are kept."""


def is_ours(name: str) -> bool:
    """Whether a column is one of the table `compounds`."""
    return name in SCHEMAS["compounds"].arrow.names


def read_frame(store: ArtifactStore, ref: ArtifactRef, columns: list[str] | None = None) -> pd.DataFrame:
    """Return a table with the columns that were kept beside it.

    Parameters
    ----------
    store, ref
        An artifact with a main table; only `compounds` have further columns.
    columns
        Names of columns, ours and others, all by default; others that there are not are left out.
    """
    ours = None if columns is None else [name for name in columns if ref.kind != "compounds" or is_ours(name)]
    frame: pd.DataFrame = store.read_table(ref, columns=ours).to_pandas()
    if not any(entry.path == f"{TABLE}.parquet" for entry in store.manifest(ref).payload):
        return frame
    further = store.read_table(ref, TABLE).to_pandas()
    for name, values in further.groupby("column", sort=True):
        if columns is None or name in columns:
            frame[str(name)] = values.set_index("row")["value"].reindex(range(len(frame))).to_numpy()
    return frame


def further_table(columns: Mapping[str, Sequence[float | None]], rows: Sequence[int]) -> pa.Table:
    """Return what chosen rows have in columns that are none of ours, as the table `further_columns`."""
    found = [
        (place, name, values[row])
        for name, values in columns.items()
        for place, row in enumerate(rows)
        if values[row] is not None
    ]
    places, names, numbers = zip(*found, strict=True) if found else ((), (), ())
    return pa.table(
        {
            "row": pa.array(places, pa.int64()),
            "column": pa.array(names, pa.string()),
            "value": pa.array(numbers, pa.float64()),
        }
    )


def further_numbers(column: pd.Series, name: str) -> list[float | None]:
    """Return a column that is none of ours as numbers, 1 and 0 for what says yes and no, None for what is neither.

    Raises
    ------
    InputError
        If it holds no number at all.
    """
    said = column.map(lambda value: YES_AND_NO.get(str(value).strip().lower(), value))
    values = pd.to_numeric(said, errors="coerce").to_numpy(float)
    if not np.isfinite(values).any():
        first = next(iter(column.dropna()), None)
        raise InputError(f"column '{name}' holds no number, and neither yes nor no (its first value: {first!r})")
    return [float(value) if math.isfinite(value) else None for value in values]
