"""Long tables piece by piece: one numeric column written as it is computed, rows read a few at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from storage.errors import SchemaError, StoreError

if TYPE_CHECKING:
    from storage.artifact import ArtifactRef
    from storage.store import ArtifactStore

STREAM_ROWS: Final = 1_048_576
"""Rows per row group of a streamed column (4 MB of float32): what is held in memory; fixed, it decides the bytes."""


class ColumnStream:
    """Writes a table of one numeric column, given in pieces of any size: the bytes do not depend on the pieces.

    Numbers that hardly repeat gain nothing from a dictionary. With their bytes split by significance, zstd packs the
    exponents of float32 well and leaves the rest: about 3.2 bytes per energy.

    Parameters
    ----------
    target
        The file.
    schema
        One field of a fixed-width type, with the metadata of the file.
    """

    def __init__(self, target: Path, schema: pa.Schema) -> None:
        (self._field,) = schema
        self._schema = schema
        self._buffer = np.empty(STREAM_ROWS, dtype=self._field.type.to_pandas_dtype())
        self._filled = 0
        self.rows = 0
        self._writer = pq.ParquetWriter(
            target,
            schema,
            compression="zstd",
            compression_level=3,
            use_dictionary=False,
            use_byte_stream_split=True,
            version="2.6",
            write_page_checksum=True,
        )

    def append(self, values: NDArray[np.generic]) -> None:
        """Add values (n,); SchemaError where they are of another type, or not finite.

        Floats are neither rounded nor widened: what is stored is what was computed, bit for bit.
        """
        if values.dtype != self._buffer.dtype or values.ndim != 1:
            raise SchemaError(f"column '{self._field.name}' takes {self._buffer.dtype} (n,), not {values.dtype}")
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise SchemaError(f"column '{self._field.name}' would get values that are NaN or infinite; correct them")
        taken = 0
        while taken < len(values):
            n = min(len(values) - taken, STREAM_ROWS - self._filled)
            self._buffer[self._filled : self._filled + n] = values[taken : taken + n]
            self._filled += n
            taken += n
            if self._filled == STREAM_ROWS:
                self._flush()
        self.rows += len(values)

    def _flush(self) -> None:
        group = pa.table([pa.array(self._buffer[: self._filled])], schema=self._schema)
        self._writer.write_table(group, row_group_size=STREAM_ROWS)
        self._filled = 0

    def __enter__(self) -> ColumnStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._filled and kind is None:
            self._flush()
        self._writer.close()


def read_rows(
    store: ArtifactStore, ref: ArtifactRef, start: int, stop: int, name: str | None = None
) -> Iterator[pa.Table]:
    """Read rows ``start`` to ``stop - 1`` of a table of an artifact, verified, a row group at a time.

    Parameters
    ----------
    store, ref
        The artifact.
    start, stop
        Range of rows.
    name
        Name of the table; the main one by default.

    Raises
    ------
    StoreError
        When the table has fewer rows.
    """
    (entry,) = store.manifest(ref).tables(name)
    if entry.rows is not None and not 0 <= start <= stop <= entry.rows:
        raise StoreError(f"{entry.path} of {ref.key} has {entry.rows:,} rows, not {start:,} to {stop:,}")
    with store.open(ref, entry.path) as source, pq.ParquetFile(source, page_checksum_verification=True) as file:
        low = 0
        for group in range(file.num_row_groups):
            high = low + file.metadata.row_group(group).num_rows
            if max(low, start) < min(high, stop):
                yield file.read_row_group(group).slice(max(start - low, 0), min(high, stop) - max(low, start))
            low = high
