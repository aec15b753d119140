"""Deterministic Parquet: equal tables give equal bytes, whatever chunks they came in."""

from __future__ import annotations

import io
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from storage.errors import StoreError

ROW_GROUP_ROWS = 131_072
"""Rows per row group; fixed, because it decides the bytes."""


class TableStream:
    """Writes a table given in pieces of any number of rows: the bytes are those of the whole table at once.

    Row groups have a fixed size, and each is made one contiguous chunk first: page boundaries follow chunk boundaries,
    so the same rows in other chunks would otherwise give other bytes. Parquet records the name and version of the
    writing library, so "the same bytes" means with the same pyarrow.

    Parameters
    ----------
    target
        The file.
    schema
        Of every piece, with the metadata of the file.
    """

    def __init__(self, target: str | Path | IO[bytes], schema: pa.Schema) -> None:
        metadata = schema.metadata
        self.schema = schema.with_metadata(dict(sorted(metadata.items())) if metadata else None)
        self.rows = 0
        self._waiting: list[pa.Table] = []
        self._n_waiting = 0
        options = {"compression": "zstd", "compression_level": 3, "version": "2.6", "write_page_checksum": True}
        self._writer = pq.ParquetWriter(target, self.schema, **options)

    def append(self, table: pa.Table) -> None:
        """Add rows; whole row groups are written at once, the rest waits."""
        self._waiting.append(table.cast(self.schema) if table.schema != self.schema else table)
        self._n_waiting += table.num_rows
        self.rows += table.num_rows
        if self._n_waiting >= ROW_GROUP_ROWS:
            self._write(self._n_waiting - self._n_waiting % ROW_GROUP_ROWS)

    def _write(self, n: int) -> None:
        """Write the first `n` waiting rows."""
        rows = pa.concat_tables(self._waiting) if self._waiting else self.schema.empty_table()
        for start in range(0, max(n, 1), ROW_GROUP_ROWS):
            part = rows.slice(start, min(ROW_GROUP_ROWS, n - start)).combine_chunks()
            self._writer.write_table(part, row_group_size=ROW_GROUP_ROWS)
        rest = rows.slice(n)
        self._waiting, self._n_waiting = ([rest] if rest.num_rows else []), rest.num_rows

    def close(self, *, complete: bool = True) -> None:
        """Write what waits, and the end of the file; an empty table has one empty row group."""
        if complete and (self._n_waiting or not self.rows):
            self._write(self._n_waiting)
        self._writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(complete=kind is None)


def write_parquet(table: pa.Table, target: str | Path | IO[bytes]) -> None:
    """Write a table with fixed row groups, zstd, page checksums and no time stamp."""
    with TableStream(target, table.schema) as stream:
        stream.append(table)


def parquet_bytes(table: pa.Table) -> bytes:
    """Return the Parquet file of a table as bytes."""
    buffer = io.BytesIO()
    write_parquet(table, buffer)
    return buffer.getvalue()


def read_parquet(source: Any, where: str, columns: list[str] | None = None) -> pa.Table:
    """Read a Parquet file.

    Parameters
    ----------
    source
        Path or open binary file.
    where
        Name of the file for messages.
    columns
        Columns to read; all of them by default.

    Raises
    ------
    StoreError
        When it is not Parquet, is cut short or damaged, or lacks one of `columns`.
    """
    try:
        with pq.ParquetFile(source, page_checksum_verification=True) as file:
            if columns is not None:
                missing = [name for name in columns if name not in file.schema_arrow.names]
                if missing:
                    raise StoreError(
                        f"{where} has no column '{missing[0]}'; it has {', '.join(file.schema_arrow.names) or 'none'}"
                    )
            return file.read(columns=columns)
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError):
            raise
        raise StoreError(f"{where} is not a complete Parquet file; download it again or write it anew") from error
