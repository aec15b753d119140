"""Columns of a file that are none of ours: kept beside the compounds, found again by their names."""

from __future__ import annotations

import pandas as pd

from storage.artifact import ArtifactRef
from storage.schemas import SCHEMAS
from storage.store import ArtifactStore

TABLE = "further_columns"


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
