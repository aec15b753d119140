"""OPTIMADE through its own client: the fields that providers add, and what providers do differently."""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loopback import fault_proxy as fault_proxy_module
from loopback.fault_proxy import FaultProxy
from loopback.optimade_server import OptimadeServer
from loopback.records import Compound
from loopback.wire import optimade_structure
from models.errors import InputError
from models.structures import parse_structure
from reading import OUTSIDE, SWIFT, columns_of, raw_rows, read, reasons, source_parameters, taken, usable
from scripted import Answer, ScriptedServer
from storage.pages import PageFolder
from tasks.compounds import Compounds, Provenance
from tasks.parameters import QueryParameters
from tasks.sources.catalog import open_service
from tasks.sources.errors import SourceError
from tasks.sources.ledger import Ledger
from tasks.sources.optimade import JARVIS, OptimadeService
from tasks.sources.transport import Transport

Proxy = Callable[..., FaultProxy]
MANY = ("Li", "Na", "K", "Mg", "Ca", "O", "S", "F", "Cl")
Servers = Callable[[str], OptimadeServer]


def ids(some: Any, prefix: str = "oqmd") -> set[str]:
    return {f"{prefix}-{one.number}" for one in some}


def take(server: OptimadeServer | FaultProxy, **query: Any) -> Compounds:
    return read(source_parameters("optimade", server.url, **query))


# Providers


def test_every_row_and_value_of_oqmd(optimade_server: OptimadeServer, made_up: tuple[Compound, ...]) -> None:
    made = take(optimade_server, properties=("structure",))
    names = ("material_id", "formation_energy_per_atom", "energy_above_hull", "band_gap", "chemsys")
    assert columns_of(made, *names) == {
        f"oqmd-{one.number}": (f"oqmd-{one.number}", one.energy, one.hull, one.band_gap, one.chemsys)
        for one in usable(made_up)
    }
    volumes = columns_of(made, "volume_per_atom", "structure")
    for one in usable(made_up):
        volume, text = volumes[f"oqmd-{one.number}"]
        crystal = parse_structure(text)
        assert volume == pytest.approx(one.volume / len(one.sites), rel=1e-6)
        assert [str(site.specie) for site in crystal] == [symbol for symbol, _ in one.sites]
        assert np.allclose(crystal.lattice.matrix, one.lattice, atol=1e-8)
        assert np.allclose(crystal.cart_coords, one.cartesian, atol=1e-6)
    assert set(made.table.column("functional").to_pylist()) == {"pbe+u"}
    assert set(reasons(made)) == ids(one for one in made_up if set(one.elements) & OUTSIDE)


def test_every_row_and_value_of_jarvis(optimade_servers: Servers, made_up: tuple[Compound, ...]) -> None:
    server = optimade_servers("jarvis")
    made = read(source_parameters("jarvis", server.url))
    names = ("formation_energy_per_atom", "energy_above_hull", "band_gap", "bulk_modulus_vrh", "shear_modulus_vrh")
    assert columns_of(made, *names, "source", "functional") == {
        f"jarvis-{one.number}": (
            one.energy,
            one.hull,
            one.band_gap,
            one.bulk and one.bulk[0],
            one.shear and one.shear[0],
            "jarvis",
            "optb88vdw",
        )
        for one in usable(made_up)
    }


def service(provider: str = "oqmd", **options: Any) -> OptimadeService:
    return OptimadeService("http://host", QueryParameters(properties=("structure",)), provider=provider, **options)


def rows_taken(some: OptimadeService, *rows: dict[str, Any]) -> Compounds:
    return taken(list(some.rows(iter([{"data": list(rows)}]))), Provenance(some.provider, "1", lowest_per_id=True))


def changed(one: Compound, prefix: str = "oqmd", **attributes: Any) -> dict[str, Any]:
    row = copy.deepcopy(optimade_structure(one, prefix))
    row["attributes"] |= attributes
    return row


def test_what_jarvis_did_not_compute_is_null(made_up: tuple[Compound, ...]) -> None:
    one = usable(made_up)[0]
    fields = {"_jarvis_ehull": -99999, "_jarvis_bulk_modulus_kv": -99999.0, "_jarvis_optb88vdw_bandgap": "-99999"}
    made = rows_taken(service("jarvis"), changed(one, "jarvis", **fields))
    names = ("formation_energy_per_atom", "energy_above_hull", "bulk_modulus_vrh", "band_gap")
    assert columns_of(made, *names) == {f"jarvis-{one.number}": (one.energy, None, None, None)}


def test_oqmd_below_the_hull_is_on_it(made_up: tuple[Compound, ...]) -> None:
    one = usable(made_up)[0]
    made = rows_taken(service(), changed(one, _oqmd_stability=-0.25))
    assert columns_of(made, "energy_above_hull") == {f"oqmd-{one.number}": (0.0,)}


def test_an_identifier_of_digits_gets_the_provider(made_up: tuple[Compound, ...]) -> None:
    row = optimade_structure(usable(made_up)[0], "oqmd") | {"id": "4711"}
    assert columns_of(rows_taken(service(), row), "material_id") == {"4711": ("oqmd-4711",)}


def test_own_columns(made_up: tuple[Compound, ...]) -> None:
    """A provider that is not known: what its fields mean is told, and its functional."""
    one = usable(made_up)[0]
    columns = {"_lab_energy": "formation_energy_per_atom", "_lab_gap": "band_gap"}
    some = OptimadeService("https://lab.example", QueryParameters(), columns, functional="scan")
    assert (some.provider, some.scheme("1").functional) == ("lab.example", "scan")
    assert some.vital == {"chemical_formula_reduced", "_lab_energy"}
    row = changed(one, _lab_energy=-1.5, _lab_gap="2.5")
    assert columns_of(rows_taken(some, row), "formation_energy_per_atom", "band_gap") == {row["id"]: (-1.5, 2.5)}


def test_own_columns_beside_those_of_the_provider(
    optimade_server: OptimadeServer, made_up: tuple[Compound, ...]
) -> None:
    made = take(optimade_server, chemsys=("Li-O",), columns={"_oqmd_entry_id": "reference"})
    expected = [one for one in usable(made_up) if one.chemsys == "Li-O"]
    assert columns_of(made, "reference", "formation_energy_per_atom") == {
        f"oqmd-{one.number}": (str(one.number), one.energy) for one in expected
    }


@pytest.mark.parametrize(
    ("url", "columns", "provider"),
    [
        ("https://oqmd.org/optimade/", {}, "oqmd"),
        (JARVIS, {}, "jarvis"),
        ("https://alexandria.icams.rub.de/pbe", {}, "alexandria"),
        ("http://127.0.0.1:1", {"_oqmd_delta_e": "band_gap"}, "oqmd"),
        ("http://127.0.0.1:1", {}, "127.0.0.1"),
    ],
)
def test_providers_are_told_by_their_address_or_fields(url: str, columns: dict[str, str], provider: str) -> None:
    assert OptimadeService(url, QueryParameters(), columns).provider == provider


def test_an_address_that_is_none() -> None:
    with pytest.raises(
        InputError, match=r"^'oqmd\.org' is no address of an OPTIMADE database; give --source optimade:"
    ):
        open_service(source_parameters("optimade:oqmd.org", "oqmd.org"))


# Crystals that are none


SHARED = [{"name": "M", "chemical_symbols": ["Li", "Na"], "concentration": [0.5, 0.5]}]
VACANT = [{"name": "M", "chemical_symbols": ["Li", "vacancy"], "concentration": [0.5, 0.5]}]


@pytest.mark.parametrize(
    "attributes",
    [
        {"species": SHARED, "species_at_sites": ["M"], "cartesian_site_positions": [[0, 0, 0]]},
        {"species": VACANT, "species_at_sites": ["M"], "cartesian_site_positions": [[0, 0, 0]]},
        {"lattice_vectors": [[0, 0, 0]] * 3},
        {"lattice_vectors": [[1, 0, 0], [0, 1, 0], [None, None, None]]},
        {"lattice_vectors": [[1, 0], [0, 1]]},
        {"cartesian_site_positions": [["here"]]},
        {"species_at_sites": ["Xx"]},
        {"species_at_sites": ["Li"] * 99},
        {"species": ["Li"]},
    ],
)
def test_a_crystal_that_cannot_be_read_rejects_its_row(
    made_up: tuple[Compound, ...], attributes: dict[str, Any]
) -> None:
    bad, good = usable(made_up)[:2]
    made = rows_taken(service(), changed(bad, **attributes), optimade_structure(good, "oqmd"))
    assert set(columns_of(made, "structure")) == ids([good])
    ((name, reason),) = reasons(made).items()
    assert name == f"oqmd-{bad.number}"
    assert reason.startswith("structure: ")
    assert len(reason) > len("structure: ")


def test_a_row_without_crystal_is_none_the_worse(made_up: tuple[Compound, ...]) -> None:
    one = usable(made_up)[0]
    made = rows_taken(service(), changed(one, lattice_vectors=None, cartesian_site_positions=None))
    assert columns_of(made, "formation_energy_per_atom") == {f"oqmd-{one.number}": (one.energy,)}
    assert made.rejected == []


# Queries


@pytest.mark.parametrize("elements", [("O", "Li"), MANY])
def test_an_element_set(
    optimade_server: OptimadeServer, made_up: tuple[Compound, ...], elements: tuple[str, ...]
) -> None:
    expected = ids(one for one in made_up if set(one.elements) <= set(elements))
    assert set(columns_of(take(optimade_server, elements=elements), "formula")) == expected != set()


def test_systems_and_identifiers(optimade_server: OptimadeServer, made_up: tuple[Compound, ...]) -> None:
    """What any condition asks for; an identifier that is not there is rejected with its reason."""
    named = next(one for one in usable(made_up) if one.chemsys not in ("Li-O", "F-Li-Sn"))
    made = take(optimade_server, chemsys=("O-Li", "Sn-Li-F"), ids=(f"oqmd-{named.number}", "oqmd-1"))
    expected = [one for one in made_up if one.chemsys in ("Li-O", "F-Li-Sn")]
    assert set(columns_of(made, "formula")) == ids(expected) | ids([named])
    assert len(expected) > 1
    assert reasons(made) == {"oqmd-1": "OPTIMADE (oqmd) has no oqmd-1"}


def test_pages_are_read_once_each(optimade_server: OptimadeServer, fault_proxy: Proxy, tmp_path: Path) -> None:
    proxy = fault_proxy(optimade_server)
    first = read(source_parameters("optimade", proxy.url), tmp_path)
    pages = {name: times for name, times in proxy.pages().items() if "/structures" in name}
    assert list(pages.values()) == [1] * 6
    proxy.forget()
    assert read(source_parameters("optimade", proxy.url), tmp_path).table.equals(first.table)
    assert not [one for one in proxy.log if "/structures" in one.target]


# What servers do differently


@pytest.fixture
def other_server(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[dict[str, Any]], None]], None]:
    """Change every page of structures on its way from the server."""

    def change(how: Callable[[dict[str, Any]], None]) -> None:
        fetch = fault_proxy_module._ProxyHandler._fetch

        def fetched(self: Any, target: str) -> Any:
            answer = fetch(self, target)
            if "/structures" in target and answer.status == 200:
                document = json.loads(answer.body)
                how(document)
                answer.body = json.dumps(document).encode()
            return answer

        monkeypatch.setattr(fault_proxy_module._ProxyHandler, "_fetch", fetched)

    return change


def no_count(document: dict[str, Any]) -> None:
    document["meta"].pop("data_returned", None)
    document["meta"].pop("data_available", None)


def null_count(document: dict[str, Any]) -> None:
    document["meta"]["data_returned"] = None


def count_of_the_page(document: dict[str, Any]) -> None:
    document["meta"]["data_returned"] = len(document["data"])


def link_as_object(document: dict[str, Any]) -> None:
    link = document["links"]["next"]
    document["links"]["next"] = {"href": link if isinstance(link, str) else link["href"]} if link else None


@pytest.mark.parametrize("change", [no_count, null_count, count_of_the_page, link_as_object])
def test_habits_of_servers(
    optimade_server: OptimadeServer,
    fault_proxy: Proxy,
    other_server: Callable[..., None],
    change: Callable[[dict[str, Any]], None],
) -> None:
    expected = take(optimade_server)
    other_server(change)
    rows, provenance, counts = raw_rows(source_parameters("optimade", fault_proxy(optimade_server).url))
    assert taken(rows, provenance).table.equals(expected.table)
    assert counts["repeated"] == 0


class Refusing(ScriptedServer):
    def next_answer(self, path: str, headers: dict[str, str]) -> Answer:
        self.asked.append(path)
        return 400, {}, b'{"errors": [{"detail": "filter not\\nunderstood"}], "meta": {}}'


def test_a_refused_query_ends_in_one_line() -> None:
    with Refusing({}) as server:
        with pytest.raises(InputError, match=r"^OPTIMADE \(oqmd\) refuses the query \(status 400 at .*not.nunderstood"):
            read(source_parameters("optimade", server.url))
        assert len(server.asked) == 1


def test_without_the_extra_there_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "optimade.client", None)
    some = service()
    with pytest.raises(InputError) as caught:
        some.walk(Transport(some, PageFolder(tmp_path), Ledger(), SWIFT))
    assert str(caught.value) == "OPTIMADE sources need an extra: pip install 'elemscreen[optimade]'"


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    """The client swallows the error; the reader does not."""
    parameters = source_parameters("optimade", "http://127.0.0.1:1")
    with pytest.raises(SourceError, match=r"^OPTIMADE \(oqmd\) did not answer soundly in 12 tries .*ConnectionError"):
        read(parameters)
