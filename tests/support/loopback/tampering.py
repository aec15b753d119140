"""How a proxy moves the page that a request asks for, and spoils a body that looks sound."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

DEFAULT_LIMITS = {"_skip": 100, "page_offset": 100, "offset": 50}
"""Rows of a page where a request does not say, by the name of the offset."""


@dataclass(frozen=True)
class Page:
    """Which rows a request asks for."""

    target: str
    key: str
    offset: int
    limit: int

    @classmethod
    def of(cls, target: str) -> Page | None:
        """Read a path with query; None where it does not name a page by rows."""
        url = urlsplit(target)
        query = dict(parse_qsl(url.query, keep_blank_values=True))
        if {"page_above", "page_below", "page_cursor"} & query.keys():
            return None
        if "/oqmdapi/" in url.path:
            key, limit_key = "offset", "limit"
        elif url.path.rstrip("/").endswith("/structures"):
            key, limit_key = "page_offset", "page_limit"
        elif url.path.startswith("/materials/"):
            key, limit_key = "_skip", "_limit"
        else:
            return None
        try:
            limit = int(query.get(limit_key) or query.get("_per_page") or DEFAULT_LIMITS[key])
            number = query.get("page_number") or query.get("_page")
            offset = int(query.get(key) or 0) if number is None else (int(number) - 1) * limit
        except ValueError:
            return None
        return cls(target, key, offset, limit)

    def moved(self, rows: int) -> Page:
        """Return the page whose first row is that many rows later; never before the first row of all."""
        offset = max(0, self.offset + rows)
        return Page(with_parameter(self.target, self.key, str(offset)), self.key, offset, self.limit)


def with_parameter(address: str, key: str, value: str | None) -> str:
    """Return an address with one query parameter set (or removed: None), and any other way to name a page removed."""
    url = urlsplit(address)
    pairs = [
        (name, text)
        for name, text in parse_qsl(url.query, keep_blank_values=True)
        if name not in (key, "page_number", "_page")
    ]
    if value is not None:
        pairs.append((key, value))
    return urlunsplit(url._replace(query=urlencode(pairs)))


def moved_back(body: bytes, asked: Page, sent: Page) -> bytes:
    """Let the links of a moved page be those of the page that was asked for, so that only its rows betray it."""
    document = json.loads(body)
    links = document.get("links")
    if isinstance(links, dict) and (link := links.get("next")):
        address = link["href"] if isinstance(link, dict) else link
        page = Page.of(_target(address))
        if page is not None:
            at = page.offset + asked.offset - sent.offset
            address = with_parameter(address, asked.key, str(at))
            links["next"] = {**link, "href": address} if isinstance(link, dict) else address
    query = document.get("meta", {}).get("query") if isinstance(document.get("meta"), dict) else None
    if isinstance(query, dict) and isinstance(query.get("representation"), str):
        stated = dict(parse_qsl(urlsplit(asked.target).query)).get(asked.key)
        query["representation"] = with_parameter(query["representation"], asked.key, stated)
    return json.dumps(document).encode()


def _target(address: str) -> str:
    url = urlsplit(address)
    return urlunsplit(("", "", url.path, url.query, ""))


def without_field(body: bytes, source: random.Random) -> tuple[bytes, str]:
    """Remove one field of one record; return the body and what was done to it. Raise `ValueError` where it has none."""
    document = json.loads(body)
    where, holder = _record(document, source)
    name = source.choice(sorted(holder))
    del holder[name]
    return json.dumps(document).encode(), f"{where}: {name} removed"


def with_other_type(body: bytes, source: random.Random) -> tuple[bytes, str]:
    """Change the type of one value of one record; return the body and what was done to it, or raise `ValueError`."""
    document = json.loads(body)
    where, holder = _record(document, source)
    # nulls are left alone: a null that turns into a value of the right type would be no fault
    names = sorted(name for name, value in holder.items() if value is not None)
    if not names:
        raise ValueError("nothing but nulls")
    name = source.choice(names)
    value = holder[name]
    holder[name] = _other_type(value, source)
    return json.dumps(document).encode(), f"{where}: {name} {value!r:.60} -> {holder[name]!r:.60}"


def _record(document: Any, source: random.Random) -> tuple[str, dict[str, Any]]:
    """Return the name of a record and the dictionary of its fields, that of the whole answer where it has no rows."""
    if not isinstance(document, dict) or not document:
        raise ValueError("not an object")
    rows = document.get("data")
    if not isinstance(rows, list) or not any(isinstance(row, dict) and row for row in rows):
        return "answer", document
    at = source.choice([at for at, row in enumerate(rows) if isinstance(row, dict) and row])
    row = rows[at]
    attributes = row.get("attributes")
    if isinstance(attributes, dict) and attributes and source.random() < 0.9:
        return f"row {at}", attributes
    return f"row {at}", row


def _other_type(value: Any, source: random.Random) -> Any:
    if isinstance(value, bool):
        return source.choice(["yes", [value], {"value": value}])
    if isinstance(value, int | float):
        return source.choice([str(value), f"{value} eV", [value], {"value": value}, True])
    if isinstance(value, str):
        digits = "".join(letter for letter in value if letter.isdigit())
        return source.choice([int(digits or 0), [value], {"value": value}, False])
    if isinstance(value, list):
        return source.choice([json.dumps(value), dict(enumerate(value)), len(value)])
    return source.choice([json.dumps(value), list(value), len(value)])
