"""The Materials Project through `mp-api`: the summaries of materials, page by page."""

from __future__ import annotations

import itertools
import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlencode, urlsplit

from models.elements import ALL_SYMBOLS
from models.errors import InputError
from storage.scheme import EnergyScheme
from tasks.parameters import QueryParameters
from tasks.sources.errors import SourceError
from tasks.sources.ledger import PageFacts
from tasks.sources.service import RawRow
from tasks.sources.transport import Transport
from tasks.sources.values import count_of, number, odd_fields, rows_of

ENDPOINT = "https://api.materialsproject.org/"
KEY_VARIABLE = "MP_API_KEY"
_KEY_LENGTH = 32

DEFAULT_THERMO_TYPE = "GGA_GGA+U_R2SCAN"
_FUNCTIONALS = {DEFAULT_THERMO_TYPE: "mixed", "GGA_GGA+U": "pbe+u", "R2SCAN": "r2scan"}

_RESTRICTED = "BY-NC"
_NUMBERS = ("formation_energy_per_atom", "energy_above_hull", "band_gap", "volume", "nsites")
_TENSOR_FIELDS = ("material_id", "elastic_tensor")
_THERMO_FIELDS = ("material_id", "thermo_type", "formation_energy_per_atom", "energy_above_hull")
#: subsystems of an element set up to this size are named one by one; larger sets by what they exclude
_MOST_NAMED = 6
_IDS_PER_QUERY = 100

T = TypeVar("T")


class MaterialsProject:
    """Summaries of the Materials Project, with elastic tensors and other thermodynamics on request.

    Parameters
    ----------
    query
        What is asked for.
    key
        The API key; it goes into the header of requests and nowhere else.
    endpoint
        Root of the server.
    """

    name = "the Materials Project"
    vital = frozenset({"formula_pretty", "formation_energy_per_atom"})
    requests_per_second = 8.0
    concurrency = 2

    def __init__(self, query: QueryParameters, key: str | None, endpoint: str | None = None) -> None:
        if not key or len(key) != _KEY_LENGTH:
            raise InputError(
                f"the Materials Project wants an API key of {_KEY_LENGTH} characters: export {KEY_VARIABLE}, or keep "
                "it in a Prefect secret block and name that with --key-block"
            )
        self.query = query
        self._key = key
        self.endpoint = (endpoint or os.environ.get("MP_API_ENDPOINT") or ENDPOINT).rstrip("/") + "/"
        wanted = set(query.properties)
        self._objects = (
            "builder_meta",
            *(("structure",) if "structure" in wanted else ()),
            *(("bulk_modulus", "shear_modulus") if "elasticity" in wanted else ()),
        )
        self.fields = ("material_id", "formula_pretty", *_NUMBERS, *self._objects)

    def __repr__(self) -> str:
        """Return the endpoint; the key is nobody's business."""
        return f"MaterialsProject({self.endpoint})"

    def snapshot(self, transport: Transport) -> str:
        """Return the version of the database, from the service's heartbeat."""
        with transport.session() as session:
            version = session.get(self.endpoint + "heartbeat").json().get("db_version")
        if not isinstance(version, str) or not version:
            raise SourceError(f"{self.name} states no db_version at {self.endpoint}heartbeat; run again later")
        return version

    def scheme(self, snapshot: str) -> EnergyScheme:
        """Return the scheme: the thermo type decides the functional and the corrections."""
        return EnergyScheme(
            source="mp",
            release=snapshot,
            functional=_FUNCTIONALS[self.query.thermo_type],
            corrections=f"MaterialsProject2020, thermo_type {self.query.thermo_type}",
        )

    # Looking at pages

    def facts(self, address: str, document: Any) -> PageFacts | None:
        """Return what a page of summaries, elasticity or thermodynamics says; None for anything else."""
        parts = urlsplit(address)
        asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if "_limit" not in asked:
            if parts.path.endswith("/heartbeat") and not isinstance(document["db_version"], str):
                raise ValueError("db_version is no text")
            return None
        limit, skip = int(asked.pop("_limit")), int(asked.pop("_skip", "0"))
        rows, total = rows_of(document), count_of(document["meta"]["total_doc"])
        missing: set[str] = set()
        for row in rows:
            if not isinstance(row["material_id"], str):
                raise ValueError("a material_id is no text")
            missing |= self._odd(parts.path, row)
        return PageFacts(
            ids=tuple(row["material_id"] for row in rows),
            group=f"{parts.path}?{urlencode(sorted(asked.items()))}",
            total=total,
            expected=max(0, min(limit, total - skip)),
            missing=frozenset(missing),
        )

    def _odd(self, path: str, row: dict[str, Any]) -> set[str]:
        if "/elasticity" in path:
            return odd_fields(row, objects=("elastic_tensor",))
        if "/thermo" in path:
            return odd_fields(row, _THERMO_FIELDS[2:], ("thermo_type",))
        odd = odd_fields(row, _NUMBERS, ("formula_pretty",), objects=self._objects)
        for name in ("bulk_modulus", "shear_modulus"):
            value = row.get(name)
            if isinstance(value, dict) and _vrh(value) is None and value.get("vrh") is not None:
                odd.add(name)
        return odd

    def slim(self, document: Any) -> Any:
        """Return identifiers and counts, and what decides about further queries."""
        rows = [
            {"material_id": row["material_id"], "has_moduli": row.get("bulk_modulus") is not None}
            for row in document["data"]
        ]
        return {"data": rows, "meta": document["meta"]}

    # Asking

    def walk(self, transport: Transport) -> None:
        """Let `MPRester` go through the summaries, then through what belongs to them."""
        with self.rester(transport) as rester:
            size = self.query.page_size
            found: list[dict[str, Any]] = []
            for conditions in self._conditions():
                found += rester.materials.summary.search(
                    **conditions, deprecated=False, fields=list(self.fields), chunk_size=size, all_fields=False
                )
            if "elastic_tensor" in self.query.properties:
                elastic = sorted({row["material_id"] for row in found if row.get("has_moduli")})
                for ids in _batches(elastic):
                    rester.materials.elasticity.search(
                        material_ids=list(ids), fields=list(_TENSOR_FIELDS), chunk_size=size, all_fields=False
                    )
            if self.query.thermo_type != DEFAULT_THERMO_TYPE:
                for ids in _batches(sorted({row["material_id"] for row in found})):
                    rester.materials.thermo.search(
                        material_ids=list(ids),
                        thermo_types=[self.query.thermo_type],
                        fields=list(_THERMO_FIELDS),
                        chunk_size=size,
                        all_fields=False,
                    )

    def _conditions(self) -> list[dict[str, Any]]:
        """Return one set of conditions per list that is read."""
        query = self.query
        conditions: list[dict[str, Any]] = []
        if query.chemsys:
            conditions.append({"chemsys": list(query.chemsys)})
        if query.elements:
            conditions.append(_only(query.elements))
        if not (conditions or query.ids):
            conditions.append({})
        if not query.include_restricted:
            conditions = [condition | {"include_gnome": False} for condition in conditions]
        # whoever names a restricted record is told that it is one
        return conditions + [{"material_ids": list(ids)} for ids in _batches(list(query.ids))]

    def rester(self, transport: Transport, **options: Any) -> Any:
        """Return an `MPRester` on the transport; its constructor asks the service on its own, so that is repeated."""
        from mp_api.client import MPRester

        def make() -> Any:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return MPRester(
                    self._key,
                    endpoint=self.endpoint,
                    use_document_model=False,
                    mute_progress_bars=True,
                    session=transport.session({"x-api-key": self._key}),
                    **options,
                )

        patience, reason = transport.patience, ""
        for attempt in range(patience.attempts):
            try:
                return _within(patience.read_timeout_s, make)
            except Exception as error:  # the client lets anything through, from KeyError to its own errors
                reason = f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
                time.sleep(transport.pause(attempt))
        raise SourceError(
            f"{self.name} does not answer at {self.endpoint}heartbeat ({reason}); run again later"
        ) from None

    # Rows

    def rows(self, documents: Iterator[Any]) -> Iterator[RawRow]:
        """Turn pages into rows; tensors and other thermodynamics come on pages of their own, after the summaries."""
        summaries: dict[str, dict[str, Any]] = {}
        tensors: dict[str, Any] = {}
        energies: dict[str, dict[str, Any]] = {}
        for document in documents:
            for row in document["data"]:
                name = row["material_id"]
                if "elastic_tensor" in row:
                    tensors[name] = _tensor(row["elastic_tensor"])
                elif "thermo_type" in row:
                    energies[name] = row
                else:
                    summaries[name] = row
        other = self.query.thermo_type != DEFAULT_THERMO_TYPE
        for name, row in summaries.items():
            if other:
                row = row | {"formation_energy_per_atom": None, "energy_above_hull": None} | energies.get(name, {})
            yield self._row(row) | ({"elastic_tensor": tensors[name]} if tensors.get(name) is not None else {})
        for name in self.query.ids:
            if name not in summaries:
                yield {"material_id": name, "formula": None, "_reason": f"the Materials Project has no {name}"}

    def _row(self, row: dict[str, Any]) -> RawRow:
        volume, nsites = number(row.get("volume")), number(row.get("nsites"))
        meta = row.get("builder_meta")
        licence = meta.get("license") if isinstance(meta, dict) else None
        raw: RawRow = {
            "material_id": row["material_id"],
            "source_id": row["material_id"],
            "formula": row.get("formula_pretty"),
            "formation_energy_per_atom": row.get("formation_energy_per_atom"),
            "energy_above_hull": row.get("energy_above_hull"),
            "band_gap": row.get("band_gap"),
            "volume_per_atom": volume / nsites if volume and nsites else None,
            "license": licence,
        }
        if "elasticity" in self.query.properties:
            raw["bulk_modulus_vrh"] = _vrh(row.get("bulk_modulus"))
            raw["shear_modulus_vrh"] = _vrh(row.get("shear_modulus"))
        if "structure" in self.query.properties:
            raw["structure"] = row.get("structure")
        if licence == _RESTRICTED and not self.query.include_restricted:
            raw = {"material_id": row["material_id"], "formula": row.get("formula_pretty")}
            raw["_reason"] = f"licence {_RESTRICTED}: left out unless --include-restricted asks for it"
        return raw


def _only(elements: tuple[str, ...]) -> dict[str, Any]:
    """Return the condition for compounds made of nothing but these elements."""
    if len(elements) > _MOST_NAMED:
        return {"exclude_elements": [symbol for symbol in ALL_SYMBOLS if symbol not in elements]}
    subsets = (c for n in range(1, len(elements) + 1) for c in itertools.combinations(sorted(elements), n))
    return {"chemsys": ["-".join(subset) for subset in subsets]}


def _batches(names: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(names), _IDS_PER_QUERY):
        yield names[start : start + _IDS_PER_QUERY]


def _vrh(modulus: Any) -> float | None:
    """Return the Voigt-Reuss-Hill mean [GPa] of a modulus that may come with its bounds."""
    return number(modulus.get("vrh")) if isinstance(modulus, dict) else number(modulus)


def _tensor(tensor: Any) -> Any:
    """Return the 6x6 stiffness matrix [GPa] in the IEEE setting, or as computed where that is missing."""
    if isinstance(tensor, dict):
        return tensor.get("ieee_format") or tensor.get("raw")
    return tensor


def _within(seconds: float, function: Callable[[], T]) -> T:
    """Return what a function returns; TimeoutError when it takes longer.

    The client's first requests have no time-out of their own; a thread that hangs in one is left behind and dies with
    its connection.
    """
    box: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            box.append(function())
        except BaseException as error:  # handed to the caller's thread
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not box:
        raise TimeoutError(f"no answer within {seconds:g} s")
    return box[0]
