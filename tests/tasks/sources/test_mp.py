"""The Materials Project through its own client: every row and value, other thermodynamics, licences, the key."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loopback.fault_proxy import FaultProxy
from loopback.faults import LOUD, Fault, Schedule
from loopback.mp_server import API_KEY, THERMO_TYPES, MPServer
from loopback.records import Compound
from loopback.wire import MP_DATABASE_VERSION, mp_elasticity, mp_id, structure_dict
from models.errors import InputError
from models.structures import parse_structure
from reading import SWIFT, columns_of, raw_rows, read, reasons, source_parameters, taken, usable
from storage.pages import PageFolder
from tasks.compounds import Compounds
from tasks.sources.catalog import open_service
from tasks.sources.errors import SourceError
from tasks.sources.ledger import Ledger
from tasks.sources.mp import MaterialsProject
from tasks.sources.transport import Transport

Proxy = Callable[..., FaultProxy]
MANY = ("Li", "Na", "K", "Mg", "Ca", "O", "S", "F", "Cl")
ENERGIES = ("formation_energy_per_atom", "energy_above_hull")


def take(server: MPServer | FaultProxy, **query: Any) -> Compounds:
    return read(source_parameters("mp", server.url, **query))


def ids(some: Any) -> set[str]:
    return {mp_id(one) for one in some}


def free(made_up: tuple[Compound, ...]) -> list[Compound]:
    return [one for one in usable(made_up) if not one.restricted]


def test_every_row_and_value(mp_server: MPServer, made_up: tuple[Compound, ...]) -> None:
    made = take(mp_server, properties=("formation_energy", "elasticity"), include_restricted=True)

    def vrh(pair: tuple[float, float] | None) -> float | None:
        return None if pair is None else round(sum(pair) / 2, 4)

    names = ("material_id", *ENERGIES, "band_gap", "volume_per_atom", "bulk_modulus_vrh", "shear_modulus_vrh")
    assert columns_of(made, *names, "license", "chemsys") == {
        mp_id(one): (
            mp_id(one),
            one.energy,
            one.hull,
            one.band_gap,
            one.volume / len(one.sites),
            vrh(one.bulk),
            vrh(one.shear),
            "BY-NC" if one.restricted else "BY-C",
            one.chemsys,
        )
        for one in usable(made_up)
    }
    frame = made.table.to_pandas()
    assert list(frame["material_id"]) == sorted(ids(usable(made_up)), key=lambda name: (len(name), name))
    assert set(frame["source"]) == {"mp"}
    assert set(frame["source_version"]) == {MP_DATABASE_VERSION}
    assert set(frame["functional"]) == {"mixed"}
    assert set(reasons(made)) == ids(made_up) - ids(usable(made_up))


def test_crystals(mp_server: MPServer, made_up: tuple[Compound, ...]) -> None:
    made = take(mp_server, properties=("structure",), elements=("Na", "S", "F"))
    expected = [one for one in free(made_up) if set(one.elements) <= {"Na", "S", "F"}]
    crystals = columns_of(made, "structure")
    assert set(crystals) == ids(expected) != set()
    for one in expected:
        crystal = parse_structure(crystals[mp_id(one)][0])
        sites = structure_dict(one)["sites"]
        assert [str(site.specie) for site in crystal] == [site["label"] for site in sites]
        assert np.allclose(crystal.lattice.matrix, one.lattice, atol=1e-8)
        assert np.allclose(crystal.frac_coords, [site["abc"] for site in sites], atol=1e-8)


@pytest.mark.parametrize("elements", [("O", "Li", "S"), MANY])
def test_an_element_set(mp_server: MPServer, made_up: tuple[Compound, ...], elements: tuple[str, ...]) -> None:
    """Small ones are asked for by their systems, large ones by what they exclude."""
    expected = ids(one for one in free(made_up) if set(one.elements) <= set(elements))
    assert set(columns_of(take(mp_server, elements=elements), "formula")) == expected != set()


def test_a_query_that_nothing_fits(mp_server: MPServer) -> None:
    rows, _, _ = raw_rows(source_parameters("mp", mp_server.url, elements=("Li",)))
    assert rows == []


def test_chemical_systems_are_exact(mp_server: MPServer, made_up: tuple[Compound, ...]) -> None:
    made = take(mp_server, chemsys=("O-Li", "Ti-Ba-O"))
    expected = [one for one in free(made_up) if one.chemsys in ("Li-O", "Ba-O-Ti")]
    assert set(columns_of(made, "formula")) == ids(expected) != set()


def test_identifiers_one_of_them_unknown(mp_server: MPServer, made_up: tuple[Compound, ...]) -> None:
    """More than one query's worth."""
    some = free(made_up)[:150]
    made = take(mp_server, ids=(*(mp_id(one) for one in some), "mp-1"))
    assert set(columns_of(made, "formula")) == ids(some)
    assert reasons(made) == {"mp-1": "the Materials Project has no mp-1"}


def test_restricted_records_are_left_out_unless_asked_for(mp_server: MPServer, made_up: tuple[Compound, ...]) -> None:
    some = [one for one in usable(made_up) if one.restricted]
    assert some
    assert set(columns_of(take(mp_server), "license").values()) == {("BY-C",)}
    assert set(columns_of(take(mp_server), "formula")) == ids(free(made_up))
    asked = take(mp_server, include_restricted=True)
    assert {name for name, (licence,) in columns_of(asked, "license").items() if licence == "BY-NC"} == ids(some)


def test_a_restricted_record_that_is_named_is_rejected_with_its_licence(
    mp_server: MPServer, made_up: tuple[Compound, ...]
) -> None:
    restricted = next(one for one in usable(made_up) if one.restricted)
    query = {"ids": (mp_id(restricted), mp_id(free(made_up)[0]))}
    made = take(mp_server, **query)
    text = "licence BY-NC: left out unless --include-restricted asks for it"
    assert reasons(made) == {mp_id(restricted): text}
    assert str(restricted.energy) not in made.rejected[0]["record"]
    assert set(columns_of(take(mp_server, include_restricted=True, **query), "formula")) == set(query["ids"])


def test_elastic_tensors(mp_server: MPServer, made_up: tuple[Compound, ...]) -> None:
    made = take(mp_server, properties=("elasticity", "elastic_tensor"))
    expected = {
        mp_id(one): np.array(mp_elasticity(one)["elastic_tensor"]["ieee_format"]) if one.bulk else None
        for one in free(made_up)
    }
    tensors = columns_of(made, "elastic_tensor")
    assert set(tensors) == set(expected)
    for name, (tensor,) in tensors.items():
        assert (tensor is None) == (expected[name] is None)
        if tensor is not None:
            assert np.array_equal(np.array(tensor).reshape(6, 6), expected[name])
    assert 100 < sum(tensor is not None for (tensor,) in tensors.values()) < 500


@pytest.mark.parametrize(("thermo_type", "functional"), [("R2SCAN", "r2scan"), ("GGA_GGA+U", "pbe+u")])
def test_another_thermo_type(
    mp_server: MPServer, made_up: tuple[Compound, ...], thermo_type: str, functional: str
) -> None:
    shift = THERMO_TYPES[thermo_type]
    made = take(mp_server, thermo_type=thermo_type)
    assert columns_of(made, *ENERGIES, "functional") == {
        mp_id(one): (None if one.energy is None else round(one.energy + shift, 6), one.hull, functional)
        for one in free(made_up)
    }


def test_a_compound_without_the_other_thermo_type_has_no_energy(made_up: tuple[Compound, ...]) -> None:
    """Its energies of the default type would be those of another scheme."""
    one, two = (replace(one, restricted=False) for one in usable(made_up)[:2])
    with MPServer((one, two)) as server:
        routes = server.routes["/materials/thermo/"]
        routes[:] = [row for row in routes if (row["material_id"], row["thermo_type"]) != (mp_id(one), "R2SCAN")]
        made = take(server, thermo_type="R2SCAN")
    assert two.energy is not None
    assert columns_of(made, *ENERGIES) == {
        mp_id(one): (None, None),
        mp_id(two): (round(two.energy + THERMO_TYPES["R2SCAN"], 6), two.hull),
    }


def test_the_scheme_follows_the_thermo_type(mp_server: MPServer) -> None:
    schemes = {
        kind: open_service(source_parameters("mp", mp_server.url, thermo_type=kind), API_KEY).scheme("1")
        for kind in THERMO_TYPES
    }
    assert {kind: scheme.functional for kind, scheme in schemes.items()} == {
        "GGA_GGA+U": "pbe+u",
        "R2SCAN": "r2scan",
        "GGA_GGA+U_R2SCAN": "mixed",
    }
    assert len({scheme.corrections for scheme in schemes.values()}) == 3


def test_pages_are_read_once_each(mp_server: MPServer, fault_proxy: Proxy, tmp_path: Path) -> None:
    proxy = fault_proxy(mp_server)
    parameters = source_parameters("mp", proxy.url, properties=("elastic_tensor",), thermo_type="R2SCAN")
    first = read(parameters, tmp_path)
    pages = {name: times for name, times in proxy.pages().items() if name != "/heartbeat"}
    assert set(pages.values()) == {1}
    assert len(pages) == len(PageFolder(tmp_path))
    proxy.forget()
    assert read(parameters, tmp_path).table.equals(first.table)
    assert set(proxy.pages()) == {"/heartbeat"}


# The key


@pytest.mark.parametrize("key", [None, "", "short", "x" * 33])
def test_a_key_that_is_none_ends_in_one_line(key: str | None) -> None:
    with pytest.raises(InputError) as caught:
        open_service(source_parameters("mp", "http://127.0.0.1:1"), key)
    assert str(caught.value) == (
        "the Materials Project wants an API key of 32 characters: export MP_API_KEY, or keep it in a Prefect secret "
        "block and name that with --key-block"
    )


def test_a_key_that_is_refused(mp_server: MPServer, tmp_path: Path) -> None:
    service = open_service(source_parameters("mp", mp_server.url), "f" * 32)
    transport = Transport(service, PageFolder(tmp_path), Ledger(), SWIFT)
    with pytest.raises(InputError, match=r"^the Materials Project does not allow this; check the key, .*status 403 at"):
        service.walk(transport)
    assert transport.counts["requests"] == 1
    assert "f" * 32 not in repr(service)


# The heartbeat


LOUD_ONES = (*LOUD, Fault.HANG)


@pytest.mark.parametrize("fault", [*LOUD_ONES, Fault.MISSING_FIELD, Fault.CHANGED_TYPE])
def test_a_heartbeat_that_fails_a_few_times(mp_server: MPServer, fault_proxy: Proxy, fault: Fault) -> None:
    """The client asks for it on its own, without time-out and without a second try."""
    patience = replace(SWIFT, read_timeout_s=0.4)
    schedules = (
        Schedule.scripted([fault] * 3, "/heartbeat"),
        Schedule.scripted([None, fault, fault, None, fault], "/heartbeat"),
    )
    for schedule in schedules:
        proxy = fault_proxy(mp_server, schedule, retry_after=("0",))
        made = read(source_parameters("mp", proxy.url, chemsys=("Li-O",)), patience=patience)
        assert made.table.num_rows > 0
        assert made.table.column("source_version").to_pylist()[0] == MP_DATABASE_VERSION
        # what lacks a field that nobody reads is no failure
        assert proxy.faults()[fault] == 3 if fault in LOUD_ONES else 0 < proxy.faults()[fault] <= 3


@pytest.mark.parametrize("fault", [Fault.INTERNAL, Fault.HANG])
def test_a_heartbeat_that_never_comes(mp_server: MPServer, fault_proxy: Proxy, tmp_path: Path, fault: Fault) -> None:
    proxy = fault_proxy(mp_server, Schedule.always(fault, "/heartbeat"))
    service = open_service(source_parameters("mp", proxy.url), API_KEY)
    assert isinstance(service, MaterialsProject)
    patience = replace(SWIFT, attempts=3, read_timeout_s=0.2)
    transport = Transport(service, PageFolder(tmp_path), Ledger(), patience)
    with pytest.raises(SourceError, match=r"did not answer soundly in 3 tries .* at http://127\.0\.0\.1:\d+/heartbeat"):
        service.snapshot(transport)
    with pytest.raises(SourceError, match=r"^the Materials Project does not answer at .*/heartbeat \(.*\); run again"):
        service.walk(transport)
    assert {one.target for one in proxy.log} == {"/heartbeat"}


def test_the_key_stays_out_of_the_log_and_the_pages(
    mp_server: MPServer, fault_proxy: Proxy, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    proxy = fault_proxy(mp_server, Schedule.seeded(3), retry_after=("0",))
    rows, provenance, counts = raw_rows(source_parameters("mp", proxy.url), tmp_path)
    assert counts["repeated"] > 0
    assert taken(rows, provenance).table.num_rows > 500
    assert API_KEY not in caplog.text
    assert "asking again" in caplog.text
    assert not [path for path in tmp_path.iterdir() if API_KEY.encode() in path.read_bytes()]
