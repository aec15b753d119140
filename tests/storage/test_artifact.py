from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from storage.artifact import (
    ArtifactRef,
    ArtifactRequest,
    Manifest,
    PayloadFile,
    code_version,
    make_manifest,
    read_manifest,
)
from storage.errors import ArtifactCorrupt, ArtifactNotFound, StoreError
from storage.scheme import EnergyScheme

SCHEME = EnergyScheme(source="oqmd", release="1.2", functional="pbe")
REF = ArtifactRef(kind="phases", key="phases-" + "a" * 24, digest="d" * 64, uri="/somewhere")

parameters = st.dictionaries(
    st.text("abcdef", min_size=1, max_size=4),
    st.recursive(
        st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5) | st.none(),
        lambda inner: st.dictionaries(st.text("abcdef", min_size=1, max_size=4), inner, max_size=3),
        max_leaves=5,
    ),
    max_size=5,
)


def reverse(value: Any) -> Any:
    return {name: reverse(item) for name, item in reversed(value.items())} if isinstance(value, dict) else value


def request(**changes: Any) -> ArtifactRequest:
    fields: dict[str, Any] = {
        "kind": "training",
        "stage": "tasks.clean",
        "stage_version": 1,
        "parameters": {"sigma": 5.0, "range": {"low": -6, "high": 6}},
        "inputs": {"phases": REF},
        "energy_scheme": SCHEME,
    }
    return ArtifactRequest(**{**fields, **changes})


@given(parameters)
def test_key_is_stable_under_the_order_of_parameters(values: dict[str, Any]) -> None:
    assert request(parameters=values).key == request(parameters=reverse(values)).key


@given(parameters, parameters)
def test_other_parameters_other_key(a: dict[str, Any], b: dict[str, Any]) -> None:
    same = json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)
    negative_zero = "-0.0" in json.dumps([a, b])
    assert (request(parameters=a).key == request(parameters=b).key) == same or negative_zero


def test_key_does_not_change_between_versions_of_this_code() -> None:
    """A changed value here throws away every store: raise a version on purpose instead."""
    identity = (
        '{"energy_scheme":{"corrections":"none","elemental_references":"as published","functional":"pbe",'
        '"release":"1.2","source":"oqmd"},"inputs":{"phases":"' + "d" * 64 + '"},"kind":"training",'
        '"parameters":{"range":{"high":6,"low":-6},"sigma":5.0},"stage":"tasks.clean","stage_version":1}'
    )
    assert request().key == "training-" + hashlib.sha256(identity.encode()).hexdigest()[:24]
    assert request().key == "training-7d0f13ceef3984e82b9524a6"


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "phases"},
        {"stage": "tasks.other"},
        {"stage_version": 2},
        {"parameters": {"sigma": 5.0, "range": {"low": -6, "high": 7}}},
        {"parameters": {}},
        {"inputs": {}},
        {"inputs": {"other": REF}},
        {"inputs": {"phases": REF.model_copy(update={"digest": "e" * 64})}},
        {"energy_scheme": None},
        {"energy_scheme": SCHEME.model_copy(update={"release": "1.3"})},
    ],
)
def test_everything_that_decides_the_content_is_in_the_key(changes: dict[str, Any]) -> None:
    assert request(**changes).key != request().key


def test_where_an_input_lies_is_not_in_the_key() -> None:
    moved = REF.model_copy(update={"uri": "s3://bucket/x", "key": "phases-" + "b" * 24})
    assert request(inputs={"phases": moved}).key == request().key


def test_parameters_are_dumped_and_checked() -> None:
    made = request(parameters={"scheme": SCHEME, "arities": (2, 3)})
    assert made.parameters == {"scheme": SCHEME.model_dump(), "arities": [2, 3]}
    with pytest.raises(StoreError, match=r"parameters\.x is nan"):
        request(parameters={"x": float("nan")})
    with pytest.raises(StoreError, match=r"parameters\.source\.api_key looks like a credential"):
        request(parameters={"source": {"api_key": "abc"}})
    for kind in ("", "Phases", "a-b", "a/b", "1a"):
        with pytest.raises(StoreError, match="no artifact kind"):
            request(kind=kind)


@pytest.fixture
def manifest() -> Manifest:
    payload = [
        PayloadFile(
            path="training.parquet", bytes=3, sha256="1" * 64, rows=2, schema_name="training", schema_version=1
        ),
        PayloadFile(path="card.json", bytes=3, sha256="2" * 64),
    ]
    return make_manifest(request(), payload, {"b": 2, "a": 1})


def test_manifest_is_deterministic(manifest: Manifest) -> None:
    reordered = request(parameters=reverse(request().parameters))
    again = make_manifest(reordered, list(reversed(manifest.payload)), {"a": 1, "b": 2})
    assert again.to_bytes() == manifest.to_bytes()
    assert read_manifest(manifest.to_bytes(), "m") == manifest
    assert read_manifest(manifest.to_bytes(), "m").to_bytes() == manifest.to_bytes()
    assert manifest.code_version == code_version()
    assert manifest.schema_version == 1
    assert manifest.rows == 2
    assert manifest.attempt == manifest.digest[:16]
    assert manifest.key == request().key


def test_digest_covers_content_and_nothing_else(manifest: Manifest) -> None:
    def digest(request_: ArtifactRequest, payload: list[PayloadFile], counts: dict[str, int]) -> str:
        return make_manifest(request_, payload, counts).digest

    counts = manifest.counts
    assert digest(request(stage_version=9, parameters={}), manifest.payload, counts) == manifest.digest
    assert digest(request(), manifest.payload[:1], counts) != manifest.digest
    assert digest(request(), manifest.payload, {"a": 1}) != manifest.digest
    assert digest(request(energy_scheme=None), manifest.payload, counts) != manifest.digest


def _edits() -> dict[str, Callable[[dict[str, Any]], Any]]:
    return {
        "count": lambda m: m["counts"].update(a=2),
        "parameter": lambda m: m["parameters"].update(sigma=4.0),
        "code version": lambda m: m.update(code_version="9"),
        "payload digest": lambda m: m["payload"][0].update(sha256="3" * 64),
        "digest": lambda m: m.update(digest="3" * 64),
        "input": lambda m: m["inputs"]["phases"].update(digest="3" * 64),
        "key": lambda m: m.update(key="training-" + "0" * 24),
        "scheme": lambda m: m.update(energy_scheme=None),
        "extra": lambda m: m.update(more=1),
        "missing": lambda m: m.pop("stage"),
        "no version": lambda m: m.pop("format_version"),
        "type": lambda m: m.update(payload="x"),
    }


@pytest.mark.parametrize("edit", sorted(_edits()))
def test_every_edit_of_a_manifest_is_noticed(manifest: Manifest, edit: str) -> None:
    fields = json.loads(manifest.to_bytes())
    _edits()[edit](fields)
    with pytest.raises(ArtifactCorrupt, match="manifest here is damaged; run the stage again"):
        read_manifest(json.dumps(fields).encode(), "here")


def test_a_consistently_forged_checksum_does_not_help(manifest: Manifest) -> None:
    from storage.canonical import sha256_json

    fields = json.loads(manifest.to_bytes())
    fields["parameters"]["sigma"] = 4.0
    fields["checksum"] = sha256_json({name: value for name, value in fields.items() if name != "checksum"})
    with pytest.raises(ArtifactCorrupt):
        read_manifest(json.dumps(fields).encode(), "here")


def test_truncated_binary_and_newer_manifests(manifest: Manifest) -> None:
    data = manifest.to_bytes()
    for damaged in (b"", data[: len(data) // 2], b"\xff\xfe", b"[]", b"null"):
        with pytest.raises(ArtifactCorrupt):
            read_manifest(damaged, "here")
    newer = {**json.loads(data), "format_version": 2}
    with pytest.raises(StoreError, match=r"newer elemscreen.*upgrade"):
        read_manifest(json.dumps(newer).encode(), "here")


def test_file_and_tables(manifest: Manifest) -> None:
    assert manifest.file("card.json").sha256 == "2" * 64
    with pytest.raises(ArtifactNotFound, match=r"no file 'x'; it has card.json, training\.parquet"):
        manifest.file("x")
    assert [entry.path for entry in manifest.tables()] == ["training.parquet"]
    with pytest.raises(ArtifactNotFound, match="no table 'x'; its tables: training"):
        manifest.tables("x")


def test_references_are_frozen_and_small() -> None:
    with pytest.raises(ValidationError):
        REF.key = "x"
    assert ArtifactRef.model_validate_json(REF.model_dump_json()) == REF
    assert len(REF.model_dump_json()) < 300
