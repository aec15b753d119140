from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.errors import SchemaError
from storage.parquet import parquet_bytes
from storage.schemas import SCHEMAS, TEXT_COLUMNS, conform, rows_table
from storage.scheme import EnergyScheme, table_scheme, with_scheme


def example(name: str, n: int = 3) -> pa.Table:
    """A table with every column of a schema."""
    columns = {}
    for field in SCHEMAS[name].arrow:
        value: Any = 1
        if pa.types.is_string(field.type):
            value = "x"
        elif pa.types.is_boolean(field.type):
            value = True
        elif pa.types.is_fixed_size_list(field.type):
            value = [0.25] * field.type.list_size
        elif pa.types.is_list(field.type):
            value = [2 if pa.types.is_integer(field.type.value_type) else 1.5] * 36
        columns[field.name] = pa.array([value] * n, field.type)
    return pa.table(columns)


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_every_field_has_unit_and_description(name: str) -> None:
    schema = SCHEMAS[name]
    assert schema.version >= 1
    assert len(set(schema.arrow.names)) == len(schema.arrow.names)
    for field in schema.arrow:
        assert schema.unit(field.name)
        assert len(schema.description(field.name)) > 5


def test_units_that_matter() -> None:
    assert SCHEMAS["ranking"].unit("chi") == "kJ/mol/nm"
    assert SCHEMAS["compounds"].unit("volume_per_atom") == "A^3/atom"
    assert SCHEMAS["phases"].unit("formation_energy_per_atom") == "eV/atom"
    assert SCHEMAS["moduli"].unit("bulk_modulus_vrh") == "GPa"
    assert SCHEMAS["features"].arrow.field("element_fraction").type.list_size == 86
    assert SCHEMAS["training"].arrow.names == [*SCHEMAS["phases"].arrow.names, "split"]
    assert {"formula", "structure", "functional"} <= TEXT_COLUMNS


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_conform_orders_fills_and_is_idempotent(name: str) -> None:
    schema = SCHEMAS[name]
    only = example(name).select(list(reversed(schema.required)))
    once = conform(only, name)
    assert once.schema.equals(schema.arrow)
    assert once.schema.metadata == {b"schema": name.encode(), b"schema_version": str(schema.version).encode()}
    assert once.schema.field(0).metadata[b"unit"]
    assert all(once.column(column).null_count == 3 for column in schema.arrow.names if column not in schema.required)
    assert conform(once, name).equals(once, check_metadata=True)
    full = conform(example(name), name)
    assert conform(full, name).equals(full, check_metadata=True)
    assert pa.parquet.read_table(pa.BufferReader(parquet_bytes(full))).equals(full, check_metadata=True)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.one_of(st.none(), st.floats(), st.integers(-(2**60), 2**60)), min_size=1, max_size=8),
    st.sampled_from([pa.float64(), pa.float32(), pa.int64()]),
)
def test_conform_is_idempotent_on_any_numbers(values: list[Any], type_: pa.DataType) -> None:
    try:
        column = pa.array(values, type_, from_pandas=False)
    except (pa.ArrowInvalid, OverflowError):
        return
    table = example("compounds", len(values)).set_column(5, "band_gap", column)
    if type_ == pa.int64() and any(abs(value or 0) > 2**53 for value in column.to_pylist()):
        with pytest.raises(SchemaError, match="does not fit double"):
            conform(table, "compounds")
        return
    once = conform(table, "compounds")
    assert conform(once, "compounds").equals(once, check_metadata=True)
    assert not any(value is not None and math.isnan(value) for value in once.column("band_gap").to_pylist())


@pytest.mark.parametrize("column", SCHEMAS["phases"].required)
def test_missing_required_column_is_named_with_the_remedy(column: str) -> None:
    with pytest.raises(SchemaError, match=rf"'phases' lacks the column '{column}'.*--map"):
        conform(example("phases").drop_columns([column]), "phases")


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("formation_energy_per_atom", ["1.0", "2.0", "x"], "is string, not double"),
        ("formation_energy_per_atom", [True, False, True], "is bool, not double"),
        ("formation_energy_per_atom", [1.0, None, 2.0], "has 1 empty values"),
        ("formation_energy_per_atom", [1.0, float("nan"), 2.0], "has 1 values that are NaN or infinite"),
        ("formation_energy_per_atom", [1.0, float("inf"), float("-inf")], "has 2 values that are NaN"),
        ("formula", [1.5, 2.5, 3.5], "is double, not string"),
        ("n_rows", [1.5, 2.0, 3.0], "does not fit int32"),
        ("n_rows", [2**40, 2, 3], "does not fit int32"),
    ],
)
def test_wrong_values_are_refused(column: str, values: list[Any], message: str) -> None:
    table = example("phases")
    table = table.set_column(table.column_names.index(column), column, pa.array(values, from_pandas=False))
    with pytest.raises(SchemaError, match=message) as caught:
        conform(table, "phases")
    assert column in str(caught.value)
    assert "\n" not in str(caught.value)


def test_lossless_conversions() -> None:
    table = example("candidates")
    changes = {
        "index": pa.array(np.array([1, 2, 3], np.int32)),
        "arity": pa.array([2.0, 3.0, 4.0]),
        "formula": pa.array(["a", "b", "a"]).dictionary_encode(),
        "chemsys": pa.array(["a", "b", "c"], pa.large_string()),
        "formation_energy_per_atom": pa.array(np.array([0.1, 0.2, 0.3], np.float32)),
        "mixed_scheme": pa.nulls(3),
    }
    for name, column in changes.items():
        table = table.set_column(table.column_names.index(name), name, column)
    result = conform(table, "candidates")
    assert result.column("arity").to_pylist() == [2, 3, 4]
    assert result.column("formula").to_pylist() == ["a", "b", "a"]
    assert result.column("formation_energy_per_atom").to_pylist()[0] == float(np.float32(0.1))
    ids = conform(example("phases").set_column(0, "material_id", pa.array([7, 8, 9])), "phases")
    assert ids.column("material_id").to_pylist() == ["7", "8", "9"]


def test_elastic_tensor() -> None:
    table = example("compounds")
    place = table.column_names.index("elastic_tensor")
    matrix = np.arange(36.0).reshape(6, 6).tolist()
    result = conform(table.set_column(place, "elastic_tensor", pa.array([matrix, None, matrix])), "compounds")
    assert result.column("elastic_tensor").to_pylist() == [list(range(36)), None, list(range(36))]
    with pytest.raises(SchemaError, match="has 1 values that are not lists of 36"):
        conform(table.set_column(place, "elastic_tensor", pa.array([[1.0], None, [1.0] * 36])), "compounds")
    with pytest.raises(SchemaError, match="is string, not list"):
        conform(table.set_column(place, "elastic_tensor", pa.array(["[]", None, None])), "compounds")
    features = example("features")
    wrong = features.set_column(5, "element_fraction", pa.array([[1.0], [1.0], [1.0]]))
    with pytest.raises(SchemaError, match="element_fraction"):
        conform(wrong, "features")


def test_extra_columns_and_metadata() -> None:
    scheme = EnergyScheme(source="oqmd", release="1", functional="pbe")
    table = with_scheme(example("phases").append_column("extra", pa.array([1, 2, 3])), scheme)
    table = table.replace_schema_metadata({**table.schema.metadata, "pandas": "{}"})
    result = conform(table, "phases")
    assert "extra" not in result.column_names
    assert b"pandas" not in result.schema.metadata
    assert table_scheme(result) == scheme
    with pytest.raises(SchemaError, match="has no column 'extra'"):
        conform(table, "phases", extra="refuse")


def test_unknown_schema_and_doubled_column() -> None:
    with pytest.raises(SchemaError, match="no table schema 'phase'; use one of all_"):
        conform(example("phases"), "phase")
    doubled = example("formulas").append_column("formula", pa.array(["a", "b", "c"]))
    with pytest.raises(SchemaError, match="column 'formula' occurs more than once"):
        conform(doubled, "formulas")


def test_empty_table_conforms() -> None:
    for name, schema in SCHEMAS.items():
        assert conform(schema.arrow.empty_table(), name).num_rows == 0


def test_rows_table() -> None:
    table = rows_table([{"row": 4, "reason": "bad", "record": {"b": [1], "a": None}, "material_id": 7}], "rejected")
    assert table.to_pylist() == [
        {"row": 4, "material_id": "7", "formula": None, "reason": "bad", "record": '{"a": null, "b": [1]}'}
    ]
    assert rows_table([], "rejected").num_rows == 0
    with pytest.raises(SchemaError, match="lacks the column 'reason'"):
        rows_table([{"row": 1}], "rejected")
    with pytest.raises(SchemaError, match=r"column 'row'.*does not fit int64"):
        rows_table([{"row": "x", "reason": "bad"}], "rejected")
