"""Any OPTIMADE provider through the `optimade` client, with the fields that providers add."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urljoin, urlsplit

import numpy as np

from models.errors import InputError
from storage.scheme import EnergyScheme
from tasks.parameters import QueryParameters
from tasks.sources.errors import SourceError
from tasks.sources.ledger import PageFacts
from tasks.sources.service import RawRow
from tasks.sources.transport import Transport
from tasks.sources.values import crystal_text, number, odd_fields, rows_of

JARVIS = "https://jarvis.nist.gov/optimade/jarvisdft"

#: provider -> its field -> ours
PROVIDERS: dict[str, dict[str, str]] = {
    "oqmd": {
        "_oqmd_delta_e": "formation_energy_per_atom",
        "_oqmd_stability": "energy_above_hull",
        "_oqmd_band_gap": "band_gap",
    },
    "jarvis": {
        "_jarvis_formation_energy_peratom": "formation_energy_per_atom",
        "_jarvis_ehull": "energy_above_hull",
        "_jarvis_optb88vdw_bandgap": "band_gap",
        "_jarvis_bulk_modulus_kv": "bulk_modulus_vrh",
        "_jarvis_shear_modulus_gv": "shear_modulus_vrh",
    },
    "alexandria": {
        "_alexandria_formation_energy_per_atom": "formation_energy_per_atom",
        "_alexandria_hull_distance": "energy_above_hull",
        "_alexandria_band_gap": "band_gap",
    },
}
#: provider -> functional and corrections of its energies, where all of them share one
_SCHEMES = {"oqmd": ("pbe+u", "OQMD U", "OQMD fit"), "jarvis": ("optb88vdw", "none", "as published")}
#: JARVIS writes this where it has no value
_NOT_COMPUTED = -99999.0

_STRUCTURE = ("lattice_vectors", "cartesian_site_positions", "species_at_sites", "species")


class OptimadeService:
    """Structures of one OPTIMADE database.

    Parameters
    ----------
    url
        Base URL of the database.
    query
        What is asked for.
    columns
        Fields of the provider -> our columns, beside those that are known (`PROVIDERS`).
    provider
        Name of the provider; by default what its address or its fields say.
    functional
        Functional of the energies, where the provider is not known.
    """

    requests_per_second = 2.0
    concurrency = 1

    def __init__(
        self,
        url: str,
        query: QueryParameters,
        columns: Mapping[str, str] | None = None,
        provider: str | None = None,
        functional: str | None = None,
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise InputError(f"'{url}' is no address of an OPTIMADE database; give --source optimade:https://...")
        self.url, self.query, self._functional = url.rstrip("/"), query, functional
        self.provider = provider or _provider_of(url, columns or {})
        self.name = f"OPTIMADE ({self.provider})"
        self.columns = dict(PROVIDERS.get(self.provider, {})) | dict(columns or {})
        self.vital = frozenset(
            {"chemical_formula_reduced"}
            | {theirs for theirs, ours in self.columns.items() if ours == "formation_energy_per_atom"}
        )
        self._structure = "structure" in query.properties
        self._texts = ("chemical_formula_reduced",)
        self._numbers = tuple(self.columns)
        self._lists = _STRUCTURE if self._structure else ()

    def snapshot(self, transport: Transport) -> str:
        """Return the day: OPTIMADE states no version of the data."""
        return self.query.day

    def scheme(self, snapshot: str) -> EnergyScheme:
        """Return the scheme of the provider's energies, as far as it is known."""
        functional, corrections, references = _SCHEMES.get(self.provider, ("unstated", "none", "as published"))
        return EnergyScheme(
            source=self.provider,
            release=snapshot,
            functional=self._functional or functional,
            corrections=corrections,
            elemental_references=references,
        )

    def facts(self, address: str, document: Any) -> PageFacts | None:
        """Return what a page says; None for what is no list of structures."""
        if not urlsplit(address).path.endswith("/structures"):
            return None
        rows, meta = rows_of(document), document.get("meta") or {}
        missing: set[str] = set()
        for row in rows:
            if not isinstance(row["id"], str):
                raise ValueError("an id is no text")
            missing |= odd_fields(row["attributes"], self._numbers, self._texts, self._lists)
        following = (document.get("links") or {}).get("next")
        if isinstance(following, dict):
            following = following.get("href")
        if following is not None and not isinstance(following, str):
            raise ValueError("the next link is no address")
        total = meta.get("data_returned")
        # some providers state the rows of the page here, and not those of the query
        believable = isinstance(total, int) and not (following and total <= len(rows))
        return PageFacts(
            ids=tuple(row["id"] for row in rows),
            group="structures",
            total=total if believable else None,
            next_address=urljoin(address, following) if following else None,
            missing=frozenset(missing),
        )

    def slim(self, document: Any) -> Any:
        """Return what the client needs for paging: the rows' identifiers, counts and links."""
        rows = [{"id": row["id"], "type": "structures"} for row in document["data"]]
        return {"data": rows, "meta": document.get("meta") or {}, "links": document.get("links") or {}}

    def walk(self, transport: Transport) -> None:
        """Let the `optimade` client follow the pages."""
        try:
            from optimade.client import OptimadeClient
        except ImportError as error:
            raise InputError("OPTIMADE sources need an extra: pip install 'elemscreen[optimade]'") from error
        client = OptimadeClient(
            base_urls=[self.url],
            use_async=False,
            http_client=transport.session_class(),
            http_timeout=transport.patience.read_timeout_s,
            max_results_per_provider=10**9,
            silent=True,
        )
        fields = ["chemical_formula_reduced", *self.columns, *(_STRUCTURE if self._structure else ())]
        answer = client.get_one(
            endpoint="structures",
            filter=self._filter(),
            base_url=self.url,
            page_limit=self.query.page_size,
            response_fields=fields,
        )
        for result in answer.values():
            if result.errors:
                said = " ".join(str(result.errors[0]).split())[:200]
                raise SourceError(f"{self.name} ended with an error ({said}); run again later")

    def _filter(self) -> str:
        """Return the query in OPTIMADE's filter language."""
        query, parts = self.query, []
        for system in query.chemsys:
            elements = system.split("-")
            parts.append(f"(elements HAS ALL {_quoted(elements)} AND nelements={len(elements)})")
        if query.elements:
            parts.append(f"(elements HAS ONLY {_quoted(query.elements)})")
        parts += [f'(id="{name}")' for name in query.ids]
        return " OR ".join(parts)

    def rows(self, documents: Iterator[Any]) -> Iterator[RawRow]:
        """Turn pages into rows."""
        found: set[str] = set()
        for document in documents:
            for row in document["data"]:
                found.add(row["id"])
                yield self._row(row["id"], row["attributes"])
        for name in self.query.ids:
            if name not in found:
                yield {"material_id": name, "formula": None, "_reason": f"{self.name} has no {name}"}

    def _row(self, name: str, attributes: Mapping[str, Any]) -> RawRow:
        raw: RawRow = {
            "material_id": f"{self.provider}-{name}" if name.isdigit() else name,
            "source_id": name,
            "formula": attributes.get("chemical_formula_reduced"),
        }
        for theirs, ours in self.columns.items():
            value = attributes.get(theirs)
            raw[ours] = None if number(value) == _NOT_COMPUTED else value
        if self.provider == "oqmd" and number(raw.get("energy_above_hull")) is not None:
            raw["energy_above_hull"] = max(0.0, float(raw["energy_above_hull"]))
        if self._structure:
            raw |= _crystal(attributes)
        return raw


def _crystal(attributes: Mapping[str, Any]) -> RawRow:
    """Return structure and volume per atom of OPTIMADE's cell [A], positions [A] and species."""
    cell, places, names = (attributes.get(name) for name in _STRUCTURE[:3])
    if not cell or not places or not names:
        return {}
    symbols = {}
    try:
        for species in attributes.get("species") or []:
            inside = species.get("chemical_symbols") or []
            # a site that two elements share has no symbol, and no reader takes what stands here instead
            symbols[species.get("name")] = inside[0] if len(inside) == 1 else "shared by several"
        matrix = np.array(cell, float)
        if not np.isfinite(matrix).all():
            raise ValueError("a cell needs nine numbers")
        fractional = np.linalg.solve(matrix.T, np.array(places, float).T).T
        volume = abs(float(np.linalg.det(matrix))) / len(names)
    except (ValueError, TypeError, AttributeError, np.linalg.LinAlgError):
        return {"structure": crystal_text([], [], [None])}
    return {
        "structure": crystal_text(matrix, [symbols.get(name, name) for name in names], fractional),
        "volume_per_atom": volume,
    }


def _quoted(elements: Any) -> str:
    return ",".join(f'"{element}"' for element in elements)


def _provider_of(url: str, columns: Mapping[str, str]) -> str:
    """Return the provider that an address or the mapped fields speak of, else the host's name."""
    host = urlsplit(url).hostname or url
    for name in PROVIDERS:
        if name in host or any(field.startswith(f"_{name}_") for field in columns):
            return name
    return host
