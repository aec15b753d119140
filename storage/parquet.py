"""Deterministic Parquet: equal tables give equal bytes, whatever chunks they came in."""

from __future__ import annotations

import io
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from storage.errors import StoreError

ROW_GROUP_ROWS = 131_072
"""Rows per row group; fixed, because it decides the bytes."""


def write_parquet(table: pa.Table, target: str | Path | IO[bytes]) -> None:
    """Write a table with fixed row groups, zstd, page checksums and no time stamp.

    Each row group is made one contiguous chunk first: page boundaries follow chunk boundaries, so the same rows in
    other chunks would otherwise give other bytes. Parquet records the name and version of the writing library,
    so "the same bytes" means with the same pyarrow.
    """
    metadata = table.schema.metadata
    schema = table.schema.with_metadata(dict(sorted(metadata.items())) if metadata else None)
    options = {"compression": "zstd", "compression_level": 3, "version": "2.6", "write_page_checksum": True}
    with pq.ParquetWriter(target, schema, **options) as writer:
        for start in range(0, max(table.num_rows, 1), ROW_GROUP_ROWS):
            part = table.slice(start, ROW_GROUP_ROWS).combine_chunks()
            writer.write_table(part.cast(schema) if part.schema != schema else part, row_group_size=ROW_GROUP_ROWS)


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
