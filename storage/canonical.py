"""Canonical JSON: one byte string per value, whatever the order its dictionaries were filled in."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import hashlib
import json
import math
import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import numpy as np
from pydantic import BaseModel

from storage.errors import StoreError

_SECRET_KEY = re.compile(
    r"(^|[_\-.])((api[_\-]?key|password|passwd|passphrase|secret|credential|private[_\-]?key|access[_\-]?key)s?"
    r"|token|credentials|access[_\-]?key[_\-]?id|apikey)$"
)
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_URL_WITH_PASSWORD = re.compile(r"[a-zA-Z][a-zA-Z0-9+.\-]*://[^/\s:@]*:[^/\s@]+@")


def plain(value: Any, where: str = "value") -> Any:
    """Turn a value into what JSON can hold: dict, list, str, int, float, bool, None.

    Dataclasses, pydantic models, mappings, tuples, sets of strings, paths, dates, enum members and NumPy scalars and
    arrays are converted. Minus zero becomes zero, so that equal parameters have equal bytes.

    Raises
    ------
    StoreError
        For NaN or infinity, a key that is no string, or a type that has no JSON form; the message names the place.
    """
    if isinstance(value, enum.Enum):
        return plain(value.value, where)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _plain_text(value, where)
    if isinstance(value, np.generic):
        return plain(value.item(), where)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise StoreError(f"{where} is {value}, which JSON cannot hold; give a finite number or null")
        return float(value) + 0.0
    if isinstance(value, BaseModel):
        return plain(value.model_dump(mode="python"), where)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: plain(getattr(value, field.name), f"{where}.{field.name}")
            for field in dataclasses.fields(value)
        }
    if isinstance(value, Mapping):
        return _plain_mapping(value, where)
    if isinstance(value, np.ndarray):
        return plain(value.tolist(), where)
    if isinstance(value, list | tuple):
        return [plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, set | frozenset):
        return sorted((plain(item, where) for item in value), key=lambda item: json.dumps(item, sort_keys=True))
    if isinstance(value, PurePath):
        return value.as_posix()
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    raise StoreError(
        f"{where} is a {type(value).__name__}, which JSON cannot hold; give numbers, text, lists or dictionaries"
    )


def _plain_text(value: str, where: str) -> str:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise StoreError(f"{where} holds text that is not valid Unicode; write it in UTF-8") from error
    return str(value)


def _plain_mapping(value: Mapping[Any, Any], where: str) -> dict[str, Any]:
    result = {}
    for key, item in value.items():
        if isinstance(key, enum.Enum):
            key = key.value
        if not isinstance(key, str):
            raise StoreError(f"{where} has the key {key!r}, which is no text; use text keys")
        result[_plain_text(key, where)] = plain(item, f"{where}.{key}")
    return result


def canonical_bytes(value: Any) -> bytes:
    """Return the one JSON encoding of a value: sorted keys, no blanks, shortest float representation, UTF-8."""
    text = json.dumps(plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8")


def pretty_bytes(value: Any) -> bytes:
    """Return the deterministic, readable JSON encoding that files in the store have."""
    text = json.dumps(plain(value), sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    return text.encode("utf-8")


def sha256_json(value: Any) -> str:
    """Return the SHA-256 (hex) of the canonical JSON of a value."""
    return hashlib.sha256(canonical_bytes(value)).hexdigest()


def refuse_secrets(value: Any, where: str = "parameters") -> None:
    """Raise StoreError when a key looks like a credential, or a text like an address with a password in it.

    Parameters are written to manifests, which people copy and publish, so a credential must never reach them.
    """
    if isinstance(value, Mapping):
        for key, item in value.items():
            if _SECRET_KEY.search(_CAMEL.sub("_", str(key)).lower()):
                raise StoreError(
                    f"{where}.{key} looks like a credential, and parameters are written to the manifest; "
                    "pass credentials through the environment"
                )
            refuse_secrets(item, f"{where}.{key}")
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            refuse_secrets(item, f"{where}[{i}]")
    elif isinstance(value, str) and _URL_WITH_PASSWORD.search(value):
        raise StoreError(f"{where} is an address with a password in it; pass credentials through the environment")
