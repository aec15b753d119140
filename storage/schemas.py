"""The table schemas of the pipeline: one pyarrow schema per kind of table, with units, and the check against it.

Every field carries the metadata ``unit`` and ``description``. A field that is not nullable is a required column.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from storage.columns import TABLES
from storage.columns_learning import LEARNING_TABLES
from storage.columns_ranking import RANKING_TABLES
from storage.errors import SchemaError
from storage.scheme import METADATA_KEY

Extra = Literal["drop", "refuse"]


@dataclass(frozen=True)
class TableSchema:
    """A named, versioned schema.

    Attributes
    ----------
    name
        Name of the schema, the key in `SCHEMAS`.
    version
        Raised whenever a column is added, removed or changes its meaning.
    arrow
        Columns in order, with types, nullability, units and descriptions.
    """

    name: str
    version: int
    arrow: pa.Schema

    @property
    def required(self) -> list[str]:
        """Names of the columns that every table of this schema must have, without empty values."""
        return [field.name for field in self.arrow if not field.nullable]

    def unit(self, column: str) -> str:
        """Return the unit of a column (``1`` for a pure number, ``text`` for text)."""
        return str(self.arrow.field(column).metadata[b"unit"].decode())

    def description(self, column: str) -> str:
        """Return the one-line description of a column."""
        return str(self.arrow.field(column).metadata[b"description"].decode())


SCHEMAS: dict[str, TableSchema] = {
    name: TableSchema(name, version, pa.schema(fields))
    for name, (version, fields) in (TABLES | LEARNING_TABLES | RANKING_TABLES).items()
}
"""All table schemas by name."""

TEXT_COLUMNS: frozenset[str] = frozenset(
    field.name for schema in SCHEMAS.values() for field in schema.arrow if pa.types.is_string(field.type)
)
"""Columns that are text in every schema: a CSV reader must not guess their type (``NaN`` is sodium nitride)."""


def conform(table: pa.Table, name: str, *, extra: Extra = "drop") -> pa.Table:
    """Return `table` with exactly the columns of schema `name`, in order, with its types and metadata.

    Missing nullable columns become null; NaN in a nullable column becomes null; integers become text where text is
    wanted (identifiers); a 6x6 nested list becomes a list of 36. The energy scheme of the table is kept.
    ``conform(conform(t)) == conform(t)``.

    Parameters
    ----------
    table
        Any table.
    name
        Key of `SCHEMAS`.
    extra
        What to do with columns that the schema does not have: ``drop`` or ``refuse``.

    Raises
    ------
    SchemaError
        For an unknown schema, missing or doubled columns, a type that would need guessing, an empty or non-finite value
        in a required column, or (with ``refuse``) a column too many.
    """
    schema = _schema(name)
    _check_columns(table, schema, extra)
    columns = []
    for field in schema.arrow:
        if field.name in table.column_names:
            columns.append(_column(table.column(field.name), field, name))
        else:
            columns.append(pa.chunked_array([pa.nulls(table.num_rows, field.type)]))
    metadata = {b"schema": name.encode(), b"schema_version": str(schema.version).encode()}
    scheme = (table.schema.metadata or {}).get(METADATA_KEY)
    if scheme is not None:
        metadata[METADATA_KEY] = scheme
    return pa.table(columns, schema=schema.arrow.with_metadata(dict(sorted(metadata.items()))))


def _schema(name: str) -> TableSchema:
    if name not in SCHEMAS:
        raise SchemaError(f"there is no table schema '{name}'; use one of {', '.join(sorted(SCHEMAS))}")
    return SCHEMAS[name]


def _check_columns(table: pa.Table, schema: TableSchema, extra: Extra) -> None:
    names = table.column_names
    doubled = sorted({column for column in names if names.count(column) > 1})
    if doubled:
        raise SchemaError(f"column {_quoted(doubled)} occurs more than once; rename or remove the doubled column")
    missing = [column for column in schema.required if column not in names]
    if missing:
        raise SchemaError(
            f"table '{schema.name}' lacks the column {_quoted(missing)} (it has {', '.join(names) or 'none'}); "
            "add it, or map another column to it with --map column=name"
        )
    foreign = [column for column in names if column not in schema.arrow.names]
    if foreign and extra == "refuse":
        raise SchemaError(f"table '{schema.name}' has no column {_quoted(foreign)}; remove it")


def _column(column: pa.ChunkedArray, field: pa.Field, table: str) -> pa.ChunkedArray:
    where = f"column '{field.name}' of table '{table}'"
    column = _cast(column, field, where)
    if pa.types.is_floating(field.type) and len(column):
        column = _finite(column, field, where)
    if not field.nullable and column.null_count:
        raise SchemaError(f"{where} has {column.null_count} empty values; fill them in or reject those rows")
    if b"length" in field.metadata:
        length = int(field.metadata[b"length"])
        wrong = pc.sum(pc.not_equal(pc.list_value_length(column), length)).as_py()
        if wrong:
            raise SchemaError(
                f"{where} has {wrong} values that are not lists of {length} numbers; correct or reject those rows"
            )
    return column


def _finite(column: pa.ChunkedArray, field: pa.Field, where: str) -> pa.ChunkedArray:
    if field.nullable:
        return pc.if_else(pc.is_nan(column), pa.scalar(None, field.type), column)
    bad = pc.sum(pc.invert(pc.is_finite(column))).as_py()
    if bad:
        raise SchemaError(f"{where} has {bad} values that are NaN or infinite; correct or reject those rows")
    return column


def _cast(column: pa.ChunkedArray, field: pa.Field, where: str) -> pa.ChunkedArray:
    have, want = column.type, field.type
    if pa.types.is_dictionary(have):
        column = column.cast(have.value_type)
        have = column.type
    if have == want:
        return column
    if not _castable(have, want):
        raise SchemaError(f"{where} is {have}, not {want}; convert it")
    try:
        if _is_list(have) and _is_list(have.value_type):
            flat = [None if row is None else _flatten(row) for row in column.to_pylist()]
            return pa.chunked_array([pa.array(flat, want)])
        return column.cast(want)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise SchemaError(f"{where} does not fit {want} ({reason}); convert it or reject those rows") from error


def _castable(have: pa.DataType, want: pa.DataType) -> bool:
    if pa.types.is_null(have):
        return True
    if pa.types.is_string(want):
        return bool(pa.types.is_large_string(have) or pa.types.is_string_view(have) or pa.types.is_integer(have))
    if pa.types.is_boolean(want):
        return bool(pa.types.is_boolean(have))
    if _is_list(want):
        return _is_list(have)
    return bool(pa.types.is_integer(have) or pa.types.is_floating(have))


def _is_list(type_: pa.DataType) -> bool:
    return bool(pa.types.is_list(type_) or pa.types.is_large_list(type_) or pa.types.is_fixed_size_list(type_))


def _flatten(value: Any) -> list[Any]:
    if isinstance(value, list):
        return [number for item in value for number in _flatten(item)]
    return [value]


def _quoted(names: list[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)


def rows_table(rows: list[dict[str, Any]], name: str) -> pa.Table:
    """Return a table of schema `name` from dictionaries; a nested `record` becomes JSON text."""
    schema = _schema(name)
    columns: dict[str, pa.Array] = {}
    for field in schema.arrow:
        values = [row.get(field.name) for row in rows]
        if pa.types.is_string(field.type):
            values = [_as_text(value) for value in values]
        if field.nullable or any(field.name in row for row in rows) or not rows:
            try:
                columns[field.name] = pa.array(values, field.type)
            except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
                raise SchemaError(
                    f"column '{field.name}' of table '{name}' does not fit {field.type} ({error}); convert it"
                ) from error
    return conform(pa.table(columns), name)


def _as_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, dict | list):
        return json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return str(value)
