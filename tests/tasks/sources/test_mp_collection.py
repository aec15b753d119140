"""The Materials Project in one piece: the same rows as page by page, and always of the version that is asked for."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from deltalake import write_deltalake

from loopback.fault_proxy import FaultProxy
from loopback.faults import Fault, Schedule
from loopback.mp_server import API_KEY, MPServer
from loopback.records import Compound, compounds
from loopback.wire import MP_DATABASE_VERSION, mp_id, mp_summary
from models.errors import InputError
from reading import SWIFT, source_parameters, table_bytes, taken
from storage.pages import PageFolder
from tasks.compounds import Compounds, Provenance
from tasks.sources.catalog import open_service
from tasks.sources.errors import SourceError
from tasks.sources.ledger import Ledger
from tasks.sources.mp import MaterialsProject
from tasks.sources.mp_collection import read_collection
from tasks.sources.service import documents, read_all
from tasks.sources.transport import Transport

PROPERTIES = ("formation_energy", "energy_above_hull", "band_gap", "volume", "elasticity")


def summaries(made: tuple[Compound, ...], extra: tuple[str, ...] = ("deprecated", "chemsys")) -> list[dict[str, Any]]:
    names = (
        "material_id", "formula_pretty", "formation_energy_per_atom", "energy_above_hull", "band_gap", "volume",
        "nsites", "builder_meta", "bulk_modulus", "shear_modulus", *extra,
    )  # fmt: skip
    return [{name: document[name] for name in names} for document in map(mp_summary, made)]


def leave(cache: Path, rows: list[dict[str, Any]], version: str = MP_DATABASE_VERSION) -> Path:
    """Write a collection as the client leaves it in its cache."""
    folder = cache / "build" / "collections" / "summary"
    everything = pa.Table.from_pylist(summaries(compounds())).schema  # a few rows alone may be all null somewhere
    fields = [pa.field("version", pa.string()), *(everything.field(name) for name in rows[0])]
    table = pa.Table.from_pylist([{"version": version} | row for row in rows], schema=pa.schema(fields))
    write_deltalake(str(folder), table, partition_by=["version"], mode="overwrite")
    return folder


def service(url: str, **query: Any) -> MaterialsProject:
    found = open_service(source_parameters("mp", url, **{"properties": PROPERTIES} | query), API_KEY)
    assert isinstance(found, MaterialsProject)
    return found


def collected(some: MaterialsProject, cache: Path, version: str = MP_DATABASE_VERSION) -> list[dict[str, Any]]:
    transport = Transport(some, PageFolder(cache.parent / "pages"), Ledger(), SWIFT)
    rows = read_collection(some, transport, str(cache), version)
    return sorted(rows, key=lambda row: (len(row["material_id"]), row["material_id"]))


def table(rows: list[dict[str, Any]]) -> Compounds:
    return taken(rows, Provenance("mp", MP_DATABASE_VERSION, lowest_per_id=True))


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.mark.parametrize("include_restricted", [False, True])
def test_the_same_rows_as_page_by_page(
    mp_server: MPServer, made_up: tuple[Compound, ...], cache: Path, include_restricted: bool
) -> None:
    leave(cache, summaries(made_up))
    some = service(mp_server.url, include_restricted=include_restricted)
    pages = PageFolder(cache.parent / "paged")
    addresses, _ = read_all(some, pages, SWIFT)
    paged = sorted(
        some.rows(documents(pages, addresses)), key=lambda row: (len(row["material_id"]), row["material_id"])
    )
    rows = collected(some, cache)
    if include_restricted:
        assert rows == paged
    else:  # the collection may hold what the service would leave out: it is rejected with its licence
        assert {row["material_id"] for row in rows if "_reason" in row} == {
            mp_id(one) for one in made_up if one.restricted
        }
    assert table_bytes(table(rows)) == table_bytes(table(paged))


def test_deprecated_rows_are_left_out(mp_server: MPServer, made_up: tuple[Compound, ...], cache: Path) -> None:
    rows = summaries(made_up[:20])
    for row in rows[:5]:
        row["deprecated"] = True
    leave(cache, rows)
    found = {row["material_id"] for row in collected(service(mp_server.url, include_restricted=True), cache)}
    assert found == {mp_id(one) for one in made_up[5:20]}


def test_a_collection_without_some_columns(mp_server: MPServer, made_up: tuple[Compound, ...], cache: Path) -> None:
    rows = summaries(made_up[:5], extra=())
    for row in rows:
        del row["band_gap"]
    leave(cache, rows)
    found = collected(service(mp_server.url, include_restricted=True), cache)
    assert [row["band_gap"] for row in found] == [None] * 5
    assert [row["formation_energy_per_atom"] for row in found] == [one.energy for one in made_up[:5]]


@pytest.fixture
def downloads(monkeypatch: pytest.MonkeyPatch, made_up: tuple[Compound, ...]) -> list[bool]:
    """Stand in for the download; give whether each one was a renewal."""
    from mp_api.client.core.client import BaseRester

    made: list[bool] = []
    original = BaseRester._query_delta_backed

    def query(self: Any, *arguments: Any, **options: Any) -> Any:
        made.append(self.force_renew)
        if self.force_renew:
            shutil.rmtree(self.local_dataset_cache)
            leave(Path(self.local_dataset_cache), summaries(made_up))
            self.force_renew = False
        return original(self, *arguments, **options)

    monkeypatch.setattr(BaseRester, "_query_delta_backed", query)
    return made


def test_a_collection_of_this_version_is_used_as_it_is(
    mp_server: MPServer, made_up: tuple[Compound, ...], cache: Path, downloads: list[bool]
) -> None:
    leave(cache, summaries(made_up[:7]))
    assert len(collected(service(mp_server.url), cache)) == 7
    assert downloads == [False]


def test_a_collection_of_another_version_is_renewed(
    mp_server: MPServer, made_up: tuple[Compound, ...], cache: Path, downloads: list[bool]
) -> None:
    leave(cache, summaries(made_up[:7]), version="2024.01.01")
    assert len(collected(service(mp_server.url), cache)) == len(made_up)
    assert downloads == [False, True]


@pytest.mark.parametrize(
    "query", [{"properties": ("elastic_tensor",)}, {"thermo_type": "R2SCAN"}], ids=["tensors", "thermo"]
)
def test_what_the_collection_does_not_have(mp_server: MPServer, cache: Path, query: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"^the whole collection has no elastic tensors .*leave --cache away"):
        collected(service(mp_server.url, **query), cache)
    assert not cache.exists()


def test_a_download_that_fails_ends_in_one_line(
    mp_server: MPServer, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: Any, **options: Any) -> None:
        raise OSError("no space\nleft")

    monkeypatch.setattr("mp_api.client.core.client.BaseRester._get_delta_table", broken)
    with pytest.raises(SourceError) as caught:
        collected(service(mp_server.url), cache)
    text = "the collection of the Materials Project was not downloaded (no space left); run again later"
    assert str(caught.value) == text


def test_a_damaged_collection_ends_in_one_line(mp_server: MPServer, made_up: tuple[Compound, ...], cache: Path) -> None:
    folder = leave(cache, summaries(made_up[:7]))
    for path in folder.rglob("*.parquet"):
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(SourceError, match=r"^the collection of the Materials Project .*run again") as caught:
        collected(service(mp_server.url), cache)
    assert "\n" not in str(caught.value)


def test_a_refused_key_is_named_as_such(mp_server: MPServer, cache: Path, made_up: tuple[Compound, ...]) -> None:
    leave(cache, summaries(made_up[:7]))
    some = open_service(source_parameters("mp", mp_server.url), "f" * 32)
    assert isinstance(some, MaterialsProject)
    with pytest.raises(InputError, match="does not allow this; check the key"):
        collected(some, cache)


def test_the_questions_of_the_client_are_patient_too(
    mp_server: MPServer, made_up: tuple[Compound, ...], cache: Path, fault_proxy: Callable[..., FaultProxy]
) -> None:
    """Heartbeats, and whether restricted records may be read."""
    leave(cache, summaries(made_up))
    proxy = fault_proxy(mp_server, Schedule.scripted([Fault.INTERNAL, None] * 4), retry_after=("0",))
    assert len(collected(service(proxy.url), cache)) == len(made_up)
    assert proxy.faults()[Fault.INTERNAL] >= 3
    assert API_KEY not in json.dumps([str(path) for path in cache.rglob("*")])


def test_the_collection_becomes_a_frame_without_loss(
    mp_server: MPServer, made_up: tuple[Compound, ...], cache: Path
) -> None:
    leave(cache, summaries(made_up))
    made = table(collected(service(mp_server.url, include_restricted=True), cache))
    frame: pd.DataFrame = made.table.to_pandas()
    assert len(frame) + len(made.rejected) == len(made_up)
