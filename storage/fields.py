"""Fields of a table schema: a column's name, type, unit and description."""

from __future__ import annotations

import pyarrow as pa

EV = "eV/atom"
NONE = "1"
TEXT = "text"

LIST_F32 = pa.list_(pa.field("element", pa.float32()))
LIST_F64 = pa.list_(pa.field("element", pa.float64()))
LIST_I16 = pa.list_(pa.field("element", pa.int16()))


def field(name: str, type_: pa.DataType, unit: str, description: str, *, null: bool = False, **more: str) -> pa.Field:
    """Return a column of any type."""
    return pa.field(name, type_, nullable=null, metadata={"unit": unit, "description": description, **more})


def f64(name: str, unit: str, description: str, *, null: bool = False) -> pa.Field:
    """Return a column of numbers."""
    return field(name, pa.float64(), unit, description, null=null)


def text(name: str, description: str, *, null: bool = False) -> pa.Field:
    """Return a column of text."""
    return field(name, pa.string(), TEXT, description, null=null)


def i32(name: str, description: str) -> pa.Field:
    """Return a column of whole numbers."""
    return field(name, pa.int32(), NONE, description)


def flag(name: str, description: str, *, null: bool = False) -> pa.Field:
    """Return a column of yes and no."""
    return field(name, pa.bool_(), NONE, description, null=null)
