"""A small Materials Project: the summary, thermo and elasticity routes as the client of `mp_api` asks for them."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from email.message import Message
from typing import Any

from pymatgen.core import Composition

from loopback.records import Compound, compounds
from loopback.serving import Server, whole
from loopback.wire import MP_DATABASE_VERSION, RESTRICTED_BATCH, mp_elasticity, mp_summary, mp_thermo

API_KEY = "0123456789abcdef0123456789abcdef"
"""Made up; 32 characters, as the client demands."""
LARGEST_PAGE = 1000
THERMO_TYPES = {"GGA_GGA+U": 0.0, "R2SCAN": -0.11, "GGA_GGA+U_R2SCAN": -0.02}
"""Kinds of calculation that every compound has, and what each adds to the energy [eV/atom]."""

Document = dict[str, Any]
_CONTROL = {
    "_limit", "_skip", "_page", "_per_page", "_fields", "_all_fields", "_sort_fields", "license",
}  # fmt: skip


def _reduced(formulas: str) -> set[str]:
    return {Composition(formula).reduced_formula for formula in formulas.split(",")}


def _systems(text: str) -> set[str]:
    return {"-".join(sorted(system.split("-"))) for system in text.split(",")}


def _elements(document: Document) -> set[str]:
    return set(document["chemsys"].split("-"))


_FILTERS = (
    "material_ids", "chemsys", "elements", "exclude_elements", "formula", "thermo_types", "thermo_ids", "batch_id",
    "batch_id_not_eq", "deprecated", "is_stable",
)  # fmt: skip


def _filter(name: str, text: str) -> Callable[[Document], bool]:
    """Return the test of one query parameter out of `_FILTERS`."""
    some = frozenset(text.split(","))
    match name:
        case "material_ids" | "thermo_ids":
            return lambda d: d.get(name.removesuffix("s")) in some
        case "chemsys":
            systems = _systems(text)
            return lambda d: d["chemsys"] in systems
        case "elements":
            return lambda d: some <= _elements(d)
        case "exclude_elements":
            return lambda d: not some & _elements(d)
        case "formula":
            reduced = _reduced(text)
            return lambda d: d["formula_pretty"] in reduced
        case "thermo_types":  # the client writes "r2SCAN" and gets "R2SCAN"
            kinds = {kind.upper() for kind in some}
            return lambda d: d.get("thermo_type") in kinds
        case "batch_id":
            return lambda d: _meta(d, "batch_id") == text
        case "batch_id_not_eq":
            return lambda d: _meta(d, "batch_id") != text
        case _:  # a flag
            return lambda d: bool(d.get(name)) == (text.lower() == "true")


def _meta(document: Document, key: str) -> Any:
    return document.get("builder_meta", {}).get(key)


def _bound(name: str, text: str) -> Callable[[Document], bool]:
    """Return the test of a `..._min` or `..._max`; a null passes neither, as in the database."""
    field, limit = name[:-4], float(text)
    part = {"k": "bulk_modulus", "g": "shear_modulus"}.get(field[:1]) if field[1:2] == "_" else None

    def value(document: Document) -> float | None:
        found = (document.get(part) or {}).get(field[2:]) if part else document.get(field)
        return found if isinstance(found, int | float) else None

    if name.endswith("_min"):
        return lambda d: (at := value(d)) is not None and at >= limit
    return lambda d: (at := value(d)) is not None and at <= limit


class MPServer(Server):
    """The Materials Project on 127.0.0.1.

    Parameters
    ----------
    made : sequence of Compound
        What the database holds.
    api_key : str
        Key that requests must have in `X-API-KEY`; the heartbeat needs none.
    emmet_version : str
        Version that the heartbeat states; the client warns of an old one.
    """

    def __init__(
        self, made: tuple[Compound, ...] | None = None, api_key: str = API_KEY, emmet_version: str = "0.87.0"
    ) -> None:
        made = compounds() if made is None else made
        self.api_key = api_key
        self.emmet_version = emmet_version
        thermo = [mp_thermo(one, kind, shift) for one in made for kind, shift in THERMO_TYPES.items()]
        self.routes: dict[str, list[Document]] = {
            "/materials/summary/": [mp_summary(one) for one in made],
            "/materials/thermo/": thermo,
            "/materials/elasticity/": [mp_elasticity(one) for one in made if one.bulk],
        }
        super().__init__()

    def answer(self, path: str, query: dict[str, str], headers: Message) -> tuple[int, Any]:
        if path.rstrip("/") == "/heartbeat":
            return 200, {
                "status": "OK",
                "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                "version": self.emmet_version,
                "db_version": MP_DATABASE_VERSION,
                "access_controlled_batch_ids": [RESTRICTED_BATCH],
            }
        key = headers.get("X-API-KEY")
        if not key:
            return 401, {"message": "No API key found in request"}
        if key != self.api_key:
            return 403, {"message": "Invalid authentication credentials"}
        documents = self.routes.get(path.rstrip("/") + "/")
        if documents is None:
            return 404, {"detail": "Not Found"}
        return self._search(documents, query)

    def _search(self, documents: list[Document], query: dict[str, str]) -> tuple[int, Any]:
        unknown = [
            name for name in query if not (name in _CONTROL or name in _FILTERS or name[-4:] in ("_min", "_max"))
        ]
        if unknown:
            return 400, {"detail": f"Request contains query parameters which cannot be used: {', '.join(unknown)}"}
        limit = whole(query.get("_limit") or query.get("_per_page"), 100)
        if limit > LARGEST_PAGE:
            return 400, {"detail": f"Requested more data per query than allowed by this endpoint ({LARGEST_PAGE})"}
        found = self._selected(documents, query)
        for name in reversed([name for name in query.get("_sort_fields", "").split(",") if name]):
            field = name.lstrip("-")
            found = sorted(found, key=lambda d: (d.get(field) is None, d.get(field)), reverse=name.startswith("-"))
        skip = whole(query.get("_skip"), 0)
        if "_page" in query:
            skip = limit * (whole(query["_page"], 1, 1) - 1)
        page = found[skip : skip + limit]
        meta = {
            "api_version": "v3",
            "time_stamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "total_doc": len(found),
            "max_limit": LARGEST_PAGE,
            "facet": None,
        }
        return 200, {"data": [self._projected(document, query) for document in page], "meta": meta}

    @staticmethod
    def _selected(documents: list[Document], query: dict[str, str]) -> list[Document]:
        tests = [_filter(name, text) for name, text in query.items() if name in _FILTERS]
        tests += [_bound(name, text) for name, text in query.items() if name[-4:] in ("_min", "_max")]
        if query.get("license", "All") != "All":
            tests.append(lambda d: _meta(d, "license") == query["license"])
        return [document for document in documents if all(test(document) for test in tests)]

    @staticmethod
    def _projected(document: Document, query: dict[str, str]) -> Document:
        """Return the fields asked for; one that the document lacks is null, of `a.b` only that part of `a` is sent."""
        if query.get("_all_fields", "").lower() == "true":
            return document
        sent: Document = {}
        for name in query.get("_fields", "material_id").split(","):
            field, _, part = name.partition(".")
            value = document.get(field)
            if part and isinstance(value, dict):
                value = {**(sent.get(field) or {}), part: copy.copy(value.get(part))}
            sent[field] = value
        return sent
