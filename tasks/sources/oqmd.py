"""The Open Quantum Materials Database through its REST interface (``/oqmdapi/formationenergy``)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from models.errors import InputError
from storage.scheme import EnergyScheme
from tasks.parameters import QueryParameters
from tasks.sources.ledger import PageFacts
from tasks.sources.service import RawRow
from tasks.sources.transport import Transport
from tasks.sources.values import count_of, crystal_text, number, odd_fields, rows_of

ENDPOINT = "https://oqmd.org"

_NUMBERS = ("delta_e", "stability", "band_gap", "volume", "natoms")
_TEXTS = ("name", "prototype")
_IDS = ("entry_id", "formationenergy_id", "duplicate_entry_id")
_STRUCTURE = ("unit_cell", "sites")


class OqmdRest:
    """Formation energies of the OQMD, PBE with U for some oxides, fitted elemental references.

    Rows are calculations; an entry with several keeps its lowest energy, and an entry that the OQMD calls a duplicate
    of another is merged into that one.

    Parameters
    ----------
    query
        What is asked for.
    endpoint
        Root of the server.
    """

    name = "OQMD"
    vital = frozenset({"name", "delta_e"})
    requests_per_second = 1.0
    concurrency = 1

    def __init__(self, query: QueryParameters, endpoint: str | None = None) -> None:
        if query.ids:
            raise InputError(
                "OQMD's own interface cannot be asked for single entries: name systems or elements, or ask "
                "optimade:https://oqmd.org/optimade for them"
            )
        self.query = query
        self.url = f"{(endpoint or ENDPOINT).rstrip('/')}/oqmdapi/formationenergy"
        self._structure = "structure" in query.properties
        self._fields = (*_IDS, *_TEXTS, *_NUMBERS, *(_STRUCTURE if self._structure else ()))

    def snapshot(self, transport: Transport) -> str:
        """Return the day: the interface states no version."""
        return self.query.day

    def scheme(self, snapshot: str) -> EnergyScheme:
        """Return the OQMD's scheme (Saal et al. 2013; Kirklin et al. 2015: fitted references)."""
        return EnergyScheme(
            source="oqmd", release=snapshot, functional="pbe+u", corrections="OQMD U", elemental_references="OQMD fit"
        )

    def facts(self, address: str, document: Any) -> PageFacts:
        """Return what a page says; its place in the list stands in its address."""
        asked = parse_qs(urlsplit(address).query)
        offset, limit = int(asked["offset"][0]), int(asked["limit"][0])
        rows, total = rows_of(document), count_of(document["meta"]["data_available"])
        missing: set[str] = set()
        for row in rows:
            missing |= odd_fields(row, _NUMBERS, _TEXTS, _STRUCTURE if self._structure else ())
            for name in ("entry_id", "duplicate_entry_id"):
                if name not in row or not isinstance(row[name], int | None):
                    missing.add(name)
        return PageFacts(
            ids=tuple(str(count_of(row["formationenergy_id"])) for row in rows),
            group=urlencode({name: values[0] for name, values in sorted(asked.items()) if name != "offset"}),
            total=total,
            expected=max(0, min(limit, total - offset)),
            missing=frozenset(missing),
        )

    def slim(self, document: Any) -> Any:
        """Return the counts: paging needs no more."""
        return {"meta": {"data_available": document["meta"]["data_available"]}}

    def walk(self, transport: Transport) -> None:
        """Ask for page after page by offset; the `next` links of the service are of several shapes."""
        with transport.session() as session:
            for condition in self._conditions():
                offset, total = 0, 1
                while offset < total:
                    place = {"limit": self.query.page_size, "offset": offset}
                    fields = {"fields": ",".join(self._fields), "format": "json"}
                    answer = session.get(f"{self.url}?{urlencode(condition | fields | place)}")
                    total = answer.json()["meta"]["data_available"]
                    offset += self.query.page_size

    def _conditions(self) -> list[dict[str, str]]:
        """Return one query per list that is read."""
        conditions = []
        for system in self.query.chemsys:
            n_elements = system.count("-") + 1
            conditions.append({"composition": system, "filter": f"ntypes={n_elements}"} if n_elements > 1 else
                              {"filter": f"element={system} AND ntypes=1"})  # fmt: skip
        if self.query.elements:
            conditions.append({"composition": "-".join(self.query.elements)})
        return conditions or [{}]

    def rows(self, documents: Iterator[Any]) -> Iterator[RawRow]:
        """Turn pages into rows; ``stability`` below zero means on the hull."""
        for document in documents:
            for row in document["data"]:
                yield self._row(row)

    def _row(self, row: dict[str, Any]) -> RawRow:
        entry = row.get("entry_id") if isinstance(row.get("entry_id"), int) else None
        natoms, volume = number(row.get("natoms")), number(row.get("volume"))
        stability, twin = number(row.get("stability")), row.get("duplicate_entry_id")
        raw: RawRow = {
            "material_id": f"oqmd-{entry}" if entry is not None else f"oqmd-calculation-{row['formationenergy_id']}",
            "source_id": str(entry if entry is not None else row["formationenergy_id"]),
            "formula": row.get("name"),
            "formation_energy_per_atom": row.get("delta_e"),
            "energy_above_hull": None if stability is None else max(stability, 0.0),
            "band_gap": row.get("band_gap"),
            "volume_per_atom": volume / natoms if volume and natoms else None,
            "prototype": row.get("prototype"),
            "_same_as": f"oqmd-{twin}" if twin is not None and twin != entry else None,
        }
        if self._structure:
            raw["structure"] = _crystal(row.get("unit_cell"), row.get("sites"))
        return raw


def _crystal(cell: Any, sites: Any) -> str | None:
    """Return the crystal of a cell [A] and sites such as ``Al @ 0.25 0.25 0.5`` (fractional), as pymatgen JSON."""
    if not cell or not sites:
        return None
    pairs = [str(site).partition("@") for site in sites]
    return crystal_text(cell, [symbol.strip() for symbol, _, _ in pairs], [place.split() for _, _, place in pairs])
