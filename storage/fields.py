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


# Columns that several tables have

ID = text("material_id", "identifier, unique within its source")
FORMULA = text("formula", "reduced formula")
CHEMSYS = text("chemsys", "chemical system: element symbols in alphabetical order, joined by '-'")
MODULI = [
    f64("bulk_modulus_vrh", "GPa", "bulk modulus, Voigt-Reuss-Hill mean"),
    f64("shear_modulus_vrh", "GPa", "shear modulus, Voigt-Reuss-Hill mean"),
]
MODULI_NULL = [column.with_nullable(True) for column in MODULI]
MODULI_ERRORS = [
    f64("log10_bulk_modulus_std", NONE, "standard deviation of log10(bulk modulus / GPa)", null=True),
    f64("log10_shear_modulus_std", NONE, "standard deviation of log10(shear modulus / GPa)", null=True),
    text("moduli_source", "stated (by the source) or predicted (by a model)"),
]
MIXED = flag("mixed_scheme", "true when energies of two schemes were compared on request", null=True)
ABOVE_HULL = f64("energy_above_hull", EV, "energy minus the hull of all phases; below 0 only for a prediction")
