from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import json
from pathlib import PurePosixPath

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from storage.canonical import canonical_bytes, plain, pretty_bytes, refuse_secrets, sha256_json
from storage.errors import StoreError

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def shuffled(value: object, random: object) -> object:
    if isinstance(value, dict):
        items = list(value.items())
        random.shuffle(items)  # type: ignore[attr-defined]
        return {key: shuffled(item, random) for key, item in items}
    return [shuffled(item, random) for item in value] if isinstance(value, list) else value


@given(json_values, st.randoms(use_true_random=False))
def test_order_of_dictionaries_does_not_matter(value: object, random: object) -> None:
    assert canonical_bytes(shuffled(value, random)) == canonical_bytes(value)


@given(json_values)
def test_json_reads_back_and_encodes_to_the_same_bytes(value: object) -> None:
    for encode in (canonical_bytes, pretty_bytes):
        again = json.loads(encode(value))
        assert again == value
        assert encode(again) == encode(value)


@given(json_values, json_values)
def test_different_values_have_different_bytes(a: object, b: object) -> None:
    same = json.dumps(plain(a), sort_keys=True) == json.dumps(plain(b), sort_keys=True)
    assert (canonical_bytes(a) == canonical_bytes(b)) == same


def test_known_digest() -> None:
    # sha256 of the 17 bytes {"a":1,"b":[0.1]}, from coreutils
    assert canonical_bytes({"b": [0.1], "a": 1}) == b'{"a":1,"b":[0.1]}'
    assert sha256_json({"b": [0.1], "a": 1}) == "da65f37e2098a5185eeb8569adfefa99cc5622e6701a102310254f9dab4aaab6"


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass(frozen=True)
class Settings:
    rate: float
    path: PurePosixPath


class Model(BaseModel):
    settings: tuple[int, ...]


def test_types_that_have_a_json_form() -> None:
    value = {
        Colour.RED: Settings(np.float64(0.5), PurePosixPath("a/b")),
        "m": Model(settings=(1, 2)),
        "n": np.arange(3, dtype=np.int8),
        "b": np.bool_(True),
        "s": {"y", "x"},
        "d": dt.date(2026, 1, 2),
        "z": -0.0,
    }
    assert json.loads(canonical_bytes(value)) == {
        "red": {"rate": 0.5, "path": "a/b"},
        "m": {"settings": [1, 2]},
        "n": [0, 1, 2],
        "b": True,
        "s": ["x", "y"],
        "d": "2026-01-02",
        "z": 0.0,
    }
    assert canonical_bytes(-0.0) == canonical_bytes(0.0) == b"0.0"
    assert type(plain(np.str_("x"))) is str


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": [1.0, float("nan")]}, r"parameters\.a\[1\] is nan"),
        ({"a": float("inf")}, r"parameters\.a is inf"),
        ({1: 2}, "the key 1, which is no text"),
        ({"a": object()}, r"parameters\.a is a object"),
        ({"a": b"x"}, r"parameters\.a is a bytes"),
        ({"a": "\ud800"}, "not valid Unicode"),
    ],
)
def test_values_without_a_json_form_are_named(value: object, message: str) -> None:
    with pytest.raises(StoreError, match=message):
        plain(value, "parameters")


@pytest.mark.parametrize(
    "key",
    [
        "api_key",
        "apiKey",
        "MP_API_KEY",
        "password",
        "auth-token",
        "token",
        "client_secret",
        "access_key_id",
        "api_keys",
    ],
)
def test_credentials_are_refused(key: str) -> None:
    with pytest.raises(StoreError, match=r"looks like a credential.*environment"):
        refuse_secrets({"source": [{key: "x"}]})


@pytest.mark.parametrize("key", ["max_tokens", "n_tokens", "secret_name", "key", "tokenizer", "keys", "password_file"])
def test_ordinary_names_pass(key: str) -> None:
    refuse_secrets({"source": {key: "x"}})


def test_address_with_password_is_refused_and_not_repeated() -> None:
    with pytest.raises(StoreError, match="password in it") as caught:
        refuse_secrets({"url": "https://me:hunter2@example.org/x"})
    assert "hunter2" not in str(caught.value)
    refuse_secrets({"url": "https://example.org:8080/x@y"})
