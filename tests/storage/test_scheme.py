from __future__ import annotations

import pyarrow as pa
import pytest
from pydantic import ValidationError

from storage.errors import SchemaError, SchemeMismatch
from storage.scheme import EnergyScheme, check_same_scheme, table_scheme, with_scheme

OQMD = EnergyScheme(source="oqmd", release="1.2", functional="pbe+u")
MP = EnergyScheme(source="mp", release="2020", functional="pbe+u", corrections="MP2020", elemental_references="fitted")


def test_labels() -> None:
    assert OQMD.label == "oqmd 1.2 pbe+u"
    assert MP.label == "mp 2020 pbe+u (corrections: MP2020; references: fitted)"


def test_same_and_both_unstated_pass() -> None:
    assert check_same_scheme(OQMD, OQMD.model_copy(), "model and phases") is False
    assert check_same_scheme(None, None, "model and phases") is False


@pytest.mark.parametrize(
    ("a", "b", "option"), [(OQMD, MP, "one scheme"), (None, MP, "--energy-scheme"), (MP, None, "--energy-scheme")]
)
def test_mismatch_names_both_and_the_remedy(a: EnergyScheme | None, b: EnergyScheme | None, option: str) -> None:
    with pytest.raises(SchemeMismatch) as caught:
        check_same_scheme(a, b, "model and phases")
    message = str(caught.value)
    assert message.startswith("model and phases: energy schemes differ (")
    assert option in message
    assert "--allow-mixed-scheme" in message
    assert "\n" not in message
    assert check_same_scheme(a, b, "model and phases", allow_mixed=True) is True


def test_one_differing_field_is_a_mismatch() -> None:
    for field in EnergyScheme.model_fields:
        with pytest.raises(SchemeMismatch):
            check_same_scheme(OQMD, OQMD.model_copy(update={field: "other"}), "x")


def test_table_metadata_round_trip_keeps_the_rest() -> None:
    table = pa.table({"a": [1]}).replace_schema_metadata({"schema": "phases"})
    stated = with_scheme(table, MP)
    assert table_scheme(stated) == MP
    assert table_scheme(stated.schema) == MP
    assert stated.schema.metadata[b"schema"] == b"phases"
    assert table_scheme(with_scheme(stated, None)) is None
    assert table_scheme(table) is None
    assert with_scheme(pa.table({"a": [1]}), None).schema.metadata is None


def test_unreadable_metadata() -> None:
    for text in ("{", '{"source": "x"}'):
        with pytest.raises(SchemaError, match="--energy-scheme"):
            table_scheme(pa.table({"a": [1]}).replace_schema_metadata({"energy_scheme": text}))


def test_scheme_is_frozen_and_closed() -> None:
    with pytest.raises(ValidationError):
        EnergyScheme(source="x", release="y", functional="z", extra="q")  # type: ignore[call-arg]
    with pytest.raises(ValidationError):
        OQMD.source = "mp"
