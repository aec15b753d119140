"""Take tables away: one file of any format, or a Parquet dataset partitioned for DuckDB, pandas and polars."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from storage.backends import disk_errors, sync_folder, sync_tree
from storage.errors import StoreError
from storage.parquet import write_parquet
from storage.tables import write_any

MAX_PARTITIONS = 10_000


def export_table(
    table: pa.Table, target: str | Path, *, partition_by: Sequence[str] = (), overwrite: bool = False
) -> list[str]:
    """Export a table.

    Parameters
    ----------
    table
        The table.
    target
        A file, its format by its ending; or, with `partition_by`, a folder.
    partition_by
        Columns whose values name the sub-folders, ``arity=3/part-0.parquet``, as Hive does. They are left out of the
        files, as readers expect. Rows keep their order.
    overwrite
        Replace what is there.

    Returns
    -------
    list of str
        Paths of the written files.

    Raises
    ------
    StoreError
        When the target is there, a column is missing or cannot name folders, or there are too many partitions.
    """
    text = os.fspath(target)
    if not partition_by:
        if not overwrite and "://" not in text and Path(text).expanduser().exists():
            raise StoreError(f"{text} is there already; remove it or allow overwriting")
        write_any(table, target)
        return [text]
    if "://" in text:
        raise StoreError(f"a partitioned dataset goes into a local folder, not to {text}; export there and copy it")
    folder = Path(text).expanduser().absolute()
    if folder.is_file() or (folder.exists() and not overwrite):
        raise StoreError(f"{folder} is there already; remove it or allow overwriting")
    parts = _partitions(table, list(partition_by))
    return _write_dataset(parts, folder)


def _partitions(table: pa.Table, names: list[str]) -> dict[str, pa.Table]:
    for name in names:
        if name not in table.column_names:
            raise StoreError(f"there is no column '{name}' to partition by; use one of {', '.join(table.column_names)}")
        type_ = table.schema.field(name).type
        if not (pa.types.is_string(type_) or pa.types.is_integer(type_) or pa.types.is_boolean(type_)):
            raise StoreError(
                f"column '{name}' is {type_}, which cannot name folders; partition by text or whole numbers"
            )
    if len(names) == table.num_columns:
        raise StoreError("every column is a partition, so no data is left; partition by fewer columns")
    groups = table.select(names).group_by(names, use_threads=False).aggregate([]).select(names).to_pylist()
    if len(groups) > MAX_PARTITIONS:
        raise StoreError(
            f"{', '.join(names)} would make {len(groups)} folders; partition by a column with fewer values"
        )
    parts = {}
    for group in groups:
        mask = None
        for name in names:
            column, value = table.column(name), group[name]
            hit = pc.is_null(column) if value is None else pc.fill_null(pc.equal(column, value), False)
            mask = hit if mask is None else pc.and_(mask, hit)
        parts["/".join(f"{name}={_folder_name(group[name])}" for name in names)] = table.filter(mask).drop_columns(
            names
        )
    return parts


def _folder_name(value: str | int | bool | None) -> str:
    if value is None:
        return "__HIVE_DEFAULT_PARTITION__"
    if isinstance(value, bool):
        return str(value).lower()
    unsafe = set('/\\:*?"<>|%=')
    return "".join(f"%{ord(sign):02X}" if sign in unsafe or ord(sign) < 32 else sign for sign in str(value))


def _write_dataset(parts: dict[str, pa.Table], folder: Path) -> list[str]:
    temporary = folder.parent / f".{folder.name}.{uuid.uuid4().hex}.tmp"
    old = temporary.with_suffix(".old")
    try:
        with disk_errors(str(folder)):
            for name, part in sorted(parts.items()):
                (temporary / name).mkdir(parents=True)
                write_parquet(part, temporary / name / "part-0.parquet")
            sync_tree(temporary)
            if folder.exists():
                os.rename(folder, old)
            os.rename(temporary, folder)
            sync_folder(folder.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
    return [str(folder / name / "part-0.parquet") for name in sorted(parts)]
