"""The REST service of OQMD: `/oqmdapi/formationenergy`, with the habits of the real one.

`more_data_available` is true as soon as there is a page before or after this one; `data_returned` turns negative past
the end; a sorted query is cut to one page before it is paged; names of fields that do not exist are ignored.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from email.message import Message
from typing import Any
from urllib.parse import urlencode

from pymatgen.core import Composition

from loopback.records import Compound, compounds, duplicates
from loopback.serving import Server, whole
from loopback.wire import oqmd_row

Row = dict[str, Any]
PATH = "/oqmdapi/formationenergy"
DEFAULT_LIMIT = 50
_TERM = re.compile(r"(\w+)(<=|>=|=|<|>)(\S+)")
_TRUE = ("T", "True", "true", "TRUE", "t")


def _elements(row: Row) -> set[str]:
    return set(re.findall("[A-Z][a-z]?", row["composition"]))


def _element_set(text: str) -> Callable[[Row], bool]:
    """Return the test of an element set: commas are "and", hyphens "or"."""
    groups = [set(group.strip("()").split("-")) for group in text.split(",")]
    return lambda row: all(group & _elements(row) for group in groups)


def _number(name: str, sign: str, limit: float) -> Callable[[Row], bool]:
    compare: dict[str, Callable[[float], bool]] = {
        "<": lambda at: at < limit, ">": lambda at: at > limit, "<=": lambda at: at <= limit,
        ">=": lambda at: at >= limit, "=": lambda at: at <= limit if name == "stability" and not limit else at == limit,
    }  # fmt: skip
    return lambda row: isinstance(row[name], int | float) and compare[sign](row[name])


def _term(text: str) -> Callable[[Row], bool]:
    """Return the test of one expression of a filter; raise `ValueError` where it is none."""
    match = _TERM.fullmatch(text)
    if not match:
        raise ValueError(f"cannot read {text!r}")
    name, sign, value = match.groups()
    if name == "element_set":
        return _element_set(value)
    if name == "element":
        return lambda row: value in _elements(row)
    if name in ("generic", "prototype", "spacegroup"):
        field = "composition_generic" if name == "generic" else name
        return lambda row: row[field] == value
    if name in ("volume", "natoms", "ntypes", "stability", "delta_e", "band_gap"):
        return _number(name, sign, float(value))
    raise ValueError(f"no attribute {name!r}")


def _composition(text: str) -> Callable[[Row], bool]:
    if "-" in text:  # a region of phase space: any compound of these elements and no others
        system = set(text.split("-"))
        return lambda row: _elements(row) <= system
    wanted = Composition(text).reduced_formula
    return lambda row: bool(row["name"] == wanted)


class OQMDServer(Server):
    """OQMD on 127.0.0.1.

    Parameters
    ----------
    made : sequence of Compound
        What the database holds; 4 % of it a second time, as duplicates.
    next_as_object : bool
        Let `links.next` be `{"href": url}` instead of the address itself.
    """

    def __init__(self, made: tuple[Compound, ...] | None = None, next_as_object: bool = False) -> None:
        made = compounds() if made is None else made
        self.rows = [oqmd_row(one) for one in (*made, *duplicates(made))]
        self.next_as_object = next_as_object
        super().__init__()

    def answer(self, path: str, query: dict[str, str], headers: Message) -> tuple[int, Any]:
        if path.rstrip("/") != PATH:
            return 404, {"detail": "Not found."}
        try:
            rows = self._selected(query)
        except ValueError:
            rows = []  # a filter that cannot be read gives nothing, not an error
        limit = whole(query.get("limit"), DEFAULT_LIMIT, 1)
        offset = whole(query.get("offset"), 0)
        count = len(rows)
        later = self._link(path, query, offset + limit, limit) if offset + limit < count else None
        earlier = self._link(path, query, max(0, offset - limit), limit) if offset else None
        return 200, {
            "links": {
                "next": {"href": later} if later and self.next_as_object else later,
                "previous": earlier,
                "base_url": {"href": f"{self.url}/oqmdapi", "meta": {"_oqmd_version": "1.0"}},
            },
            "resource": {},
            "data": [self._projected(row, query) for row in rows[offset : offset + limit]],
            "meta": {
                "query": {"representation": f"{PATH.removeprefix('/oqmdapi')}?{urlencode(query)}"},
                "api_version": "1.0",
                "time_stamp": time.strftime("%Y-%m-%d %H:%M:%S"),
                "data_returned": min(limit, count - offset),
                "data_available": count,
                "comments": "",
                "query_tree": "",
                "more_data_available": bool(later or earlier),
            },
            "response_message": "OK",
        }

    def _link(self, path: str, query: dict[str, str], offset: int, limit: int) -> str:
        changed = {**query, "limit": str(limit), "offset": str(offset)}
        if not offset:
            del changed["offset"]
        return f"{self.url}{path}?{urlencode(changed)}"

    def _selected(self, query: dict[str, str]) -> list[Row]:
        tests: list[Callable[[Row], bool]] = []
        if "composition" in query:
            tests.append(_composition(query["composition"]))
        if query.get("noduplicate") in _TRUE:
            tests.append(lambda row: row["entry_id"] == row["duplicate_entry_id"])
        if "icsd" in query:
            tests.append(lambda row: (row["icsd_id"] is not None) == (query["icsd"] in _TRUE))
        for term in filter(None, query.get("filter", "").replace("&", " AND ").split(" AND ")):
            tests.append(_term(term.strip()))
        rows = [row for row in self.rows if all(test(row) for test in tests)]
        by = query.get("sort_by")
        if by in ("stability", "delta_e"):
            some = [row for row in rows if row[by] is not None]
            some.sort(key=lambda row: row[by], reverse=query.get("desc") in _TRUE)
            first = whole(query.get("sort_offset"), 0)
            rows = some[first : first + whole(query.get("limit"), DEFAULT_LIMIT, 1)]
        return rows

    @staticmethod
    def _projected(row: Row, query: dict[str, str]) -> Row:
        fields = set(filter(None, query.get("fields", "").split(",")))
        return {name: value for name, value in row.items() if name in fields} if fields else row
