"""JSON tables: records, columns, pandas' ``split``, ``columns`` and ``table`` shapes, and JSON lines."""

from __future__ import annotations

import json
import math
from typing import Any

import pyarrow as pa

from storage.errors import StoreError


def json_table(text: str, where: str) -> pa.Table:
    """Return the table in a JSON text; StoreError when it is not JSON or not a table."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise StoreError(f"{where} is not a complete JSON file ({error}); correct it or download it again") from error
    return columns_table(_columns(value, where), where)


def lines_table(text: str, where: str) -> pa.Table:
    """Return the table in JSON lines; StoreError names the line that is not a JSON object."""
    records = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            raise StoreError(
                f"line {number} of {where} is not JSON ({error}); correct it or download the file again"
            ) from error
        if not isinstance(record, dict):
            raise StoreError(f"line {number} of {where} is no JSON object; write one record per line")
        records.append(record)
    return columns_table(_from_records(records), where)


def _columns(value: Any, where: str) -> dict[str, list[Any]]:
    if isinstance(value, list) and all(isinstance(row, dict) for row in value):
        return _from_records(value)
    if isinstance(value, dict):
        if isinstance(value.get("columns"), list) and isinstance(value.get("data"), list):
            return _from_split(value["columns"], value["data"], where)
        if isinstance(value.get("data"), list) and all(isinstance(row, dict) for row in value["data"]):
            return _from_records(value["data"])
        if value and all(isinstance(column, list) for column in value.values()):
            return value
        if value and all(isinstance(column, dict) for column in value.values()):
            return _from_indexed(value)
    raise StoreError(f"{where} is JSON, but no table; give a list of records, or an object of columns")


def _from_records(records: list[dict[str, Any]]) -> dict[str, list[Any]]:
    names = dict.fromkeys(name for record in records for name in record)
    return {name: [record.get(name) for record in records] for name in names}


def _from_indexed(columns: dict[str, dict[str, Any]]) -> dict[str, list[Any]]:
    rows = dict.fromkeys(row for column in columns.values() for row in column)
    return {name: [column.get(row) for row in rows] for name, column in columns.items()}


def _from_split(names: list[Any], data: list[Any], where: str) -> dict[str, list[Any]]:
    if any(not isinstance(row, list) or len(row) != len(names) for row in data):
        raise StoreError(f"{where} has rows that are not {len(names)} values long, as its columns say; correct it")
    return {str(name): [row[i] for row in data] for i, name in enumerate(names)}


def columns_table(columns: dict[str, list[Any]], where: str) -> pa.Table:
    """Return a table from lists; nested objects become JSON text."""
    lengths = {len(values) for values in columns.values()}
    if len(lengths) > 1:
        raise StoreError(f"the columns of {where} have different lengths; give each the same number of values")
    arrays = {}
    for name, values in columns.items():
        if any(isinstance(value, dict) for value in values):
            values = [
                None if value is None else value if isinstance(value, str) else compact(value) for value in values
            ]
        try:
            arrays[name] = pa.array(values)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
            reason = str(error).splitlines()[0]
            raise StoreError(f"column '{name}' of {where} mixes types ({reason}); give values of one type") from error
    return pa.table(arrays)


def to_json(table: pa.Table) -> bytes:
    """Return a table as a JSON list of records, one per line; NaN and infinity become null."""
    return ("[\n" + ",\n".join(compact(record) for record in table.to_pylist()) + "\n]\n").encode()


def to_lines(table: pa.Table) -> bytes:
    """Return a table as JSON lines; NaN and infinity become null."""
    return "".join(compact(record) + "\n" for record in table.to_pylist()).encode()


def compact(value: Any) -> str:
    """Return one line of JSON."""
    return json.dumps(_finite(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=str)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return value
