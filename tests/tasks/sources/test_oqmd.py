"""OQMD: every row and value of its REST interface, and nothing that it does not say."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loopback.fault_proxy import FaultProxy
from loopback.oqmd_server import OQMDServer
from loopback.records import Compound, duplicates
from loopback.wire import oqmd_row
from models.errors import InputError
from models.structures import parse_structure
from reading import OUTSIDE, columns_of, read, reasons, source_parameters, taken, usable
from storage.pages import PageFolder
from tasks.compounds import Compounds, Provenance
from tasks.sources.catalog import open_service
from tasks.sources.oqmd import OqmdRest

Proxy = Callable[..., FaultProxy]


def take(server: OQMDServer | FaultProxy, **query: Any) -> Compounds:
    return read(source_parameters("oqmd", server.url, **query))


def ids(some: Any) -> set[str]:
    return {str(one.number) for one in some}


def test_every_row_and_value(oqmd_server: OQMDServer, made_up: tuple[Compound, ...]) -> None:
    made = take(oqmd_server)
    names = ("material_id", "formation_energy_per_atom", "energy_above_hull", "band_gap", "volume_per_atom")
    assert columns_of(made, *names, "prototype", "chemsys") == {
        str(one.number): (
            f"oqmd-{one.number}",
            one.energy,
            one.hull,
            one.band_gap,
            one.volume / len(one.sites),
            one.prototype,
            one.chemsys,
        )
        for one in usable(made_up)
    }
    frame = made.table.to_pandas()
    assert set(frame["source"]) == {"oqmd"}
    assert set(frame["source_version"]) == {"2026-01-01"}
    assert set(frame["functional"]) == {"pbe+u"}
    assert list(frame["material_id"]) == [f"oqmd-{one.number}" for one in usable(made_up)]
    assert made.n_merged == len(usable(duplicates(made_up))) > 0
    for name, reason in reasons(made).items():
        assert re.fullmatch(
            r"element (He|Ar|Po) in formula '\w+' is outside the 86 elements; leave such rows out", reason
        )
        assert name.startswith("oqmd-")
    assert len(made.rejected) == sum(bool(set(one.elements) & OUTSIDE) for one in (*made_up, *duplicates(made_up)))


def test_crystals(oqmd_server: OQMDServer, made_up: tuple[Compound, ...]) -> None:
    made = take(oqmd_server, properties=("structure",), elements=("Li", "O", "S"))
    crystals = columns_of(made, "structure")
    expected = [one for one in made_up if set(one.elements) <= {"Li", "O", "S"}]
    assert set(crystals) == ids(expected) != set()
    for one in expected:
        crystal = parse_structure(crystals[str(one.number)][0])
        assert [str(site.specie) for site in crystal] == [symbol for symbol, _ in one.sites]
        assert np.allclose(crystal.lattice.matrix, one.lattice, atol=1e-8)
        # the service writes six digits
        assert np.allclose(crystal.frac_coords, [at for _, at in one.sites], atol=1e-6)


@pytest.mark.parametrize("elements", [("Li", "O"), ("Li", "Na", "K", "O", "S", "F", "Cl", "Mg", "Ca")])
def test_an_element_set(oqmd_server: OQMDServer, made_up: tuple[Compound, ...], elements: tuple[str, ...]) -> None:
    made = take(oqmd_server, elements=elements)
    assert set(columns_of(made, "formula")) == ids(one for one in made_up if set(one.elements) <= set(elements))
    assert made.table.num_rows > 0


def test_chemical_systems_are_exact(oqmd_server: OQMDServer, made_up: tuple[Compound, ...]) -> None:
    made = take(oqmd_server, chemsys=("O-Li", "Ti-Ba-O", "Mg-S"))
    wanted = {"Li-O", "Ba-O-Ti", "Mg-S"}
    assert set(columns_of(made, "formula")) == ids(one for one in made_up if one.chemsys in wanted)
    assert set(made.table.column("chemsys").to_pylist()) == {one.chemsys for one in made_up if one.chemsys in wanted}


def test_systems_elements_and_repeated_rows_together(oqmd_server: OQMDServer, made_up: tuple[Compound, ...]) -> None:
    """A row that two lists have is one row."""
    made = take(oqmd_server, chemsys=("Li-O",), elements=("Li", "O", "F"))
    assert set(columns_of(made, "formula")) == ids(one for one in made_up if set(one.elements) <= {"Li", "O", "F"})


def test_single_entries_cannot_be_asked_for() -> None:
    with pytest.raises(InputError, match=r"ask optimade:https://oqmd\.org/optimade for them$"):
        open_service(source_parameters("oqmd", "http://host", ids=("oqmd-17",)))


def test_the_shape_of_links_does_not_matter(oqmd_server: OQMDServer, made_up: tuple[Compound, ...]) -> None:
    with OQMDServer(made_up, next_as_object=True) as server:
        assert take(server, page_size=70).table.equals(take(oqmd_server, page_size=333).table)


def test_pages_are_read_once_each(oqmd_server: OQMDServer, fault_proxy: Proxy, tmp_path: Path) -> None:
    proxy = fault_proxy(oqmd_server)
    first = read(source_parameters("oqmd", proxy.url), tmp_path)
    assert len(proxy.log) == len(proxy.pages()) == len(PageFolder(tmp_path)) == 7
    proxy.forget()
    assert read(source_parameters("oqmd", proxy.url), tmp_path).table.equals(first.table)
    assert proxy.log == []


def test_a_negative_stability_is_on_the_hull(made_up: tuple[Compound, ...]) -> None:
    with OQMDServer(made_up[:4]) as server:
        for row, value in zip(server.rows, (-0.31, "-0.02", None, 0.05), strict=False):
            row["stability"] = value
        del server.rows[4:]
        made = take(server)
    assert made.table.column("energy_above_hull").to_pylist() == [0.0, 0.0, None, 0.05]


def test_duplicates_and_several_calculations_of_an_entry(made_up: tuple[Compound, ...]) -> None:
    """The lowest calculation of an entry is kept; a duplicate goes where the entry that it repeats is there."""
    with OQMDServer(made_up[:3]) as server:
        first, second, third = (dict(row) for row in server.rows[:3])
        lower = first | {"formationenergy_id": 1, "delta_e": first["delta_e"] - 0.5}
        higher = first | {"formationenergy_id": 2, "delta_e": first["delta_e"] + 0.5}
        repeat = second | {"entry_id": 10**6, "formationenergy_id": 3, "duplicate_entry_id": second["entry_id"]}
        orphan = third | {"entry_id": 10**6 + 1, "formationenergy_id": 4, "duplicate_entry_id": 10**7}
        own = third | {"duplicate_entry_id": None}
        server.rows = [higher, first, lower, repeat, second, own, orphan]
        made = take(server)
    assert columns_of(made, "formation_energy_per_atom") == {
        str(first["entry_id"]): (lower["delta_e"],),
        str(second["entry_id"]): (second["delta_e"],),
        str(third["entry_id"]): (third["delta_e"],),
        str(orphan["entry_id"]): (orphan["delta_e"],),
    }
    assert made.n_merged == 3


def test_a_row_without_an_entry_is_named_after_its_calculation(made_up: tuple[Compound, ...]) -> None:
    with OQMDServer(made_up[:1]) as server:
        server.rows = [server.rows[0] | {"entry_id": None, "formationenergy_id": 77}]
        made = take(server)
    assert columns_of(made, "material_id") == {"77": ("oqmd-calculation-77",)}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"unit_cell": [[1, 0], [0, 1]]}, r"structure: .+"),
        ({"sites": ["Li @ 0 0"]}, r"structure: .+"),
        ({"sites": ["Li"]}, r"structure: .+"),
        ({"sites": ["Xx @ 0 0 0"]}, r"structure: .+"),
        ({"sites": [7]}, r"structure: .+"),
        ({"unit_cell": [["a", 0, 0], [0, 1, 0], [0, 0, 1]]}, r"structure: .+"),
        ({"name": "Li2O)"}, r".+Li2O\).+"),
        ({"name": ""}, r".+"),
        ({"delta_e": [1]}, "formation_energy_per_atom is not a finite number"),
        ({"band_gap": "wide"}, "band_gap is not a finite number"),
    ],
)
def test_what_cannot_be_read_is_rejected_with_a_reason(
    made_up: tuple[Compound, ...], change: dict[str, Any], reason: str
) -> None:
    bad = oqmd_row(made_up[0]) | change
    service = OqmdRest(source_parameters("oqmd", "http://host", properties=("structure",)).query)
    rows = list(service.rows(iter([{"data": [bad, oqmd_row(made_up[1])]}])))
    made = taken(rows, Provenance("oqmd", "1", lowest_per_id=True))
    assert made.table.column("material_id").to_pylist() == [f"oqmd-{made_up[1].number}"]
    (text,) = reasons(made).values()
    assert re.fullmatch(reason, text)
    assert json.loads(made.rejected[0]["record"])["source_id"] == str(bad["entry_id"])


def test_the_usual_address_and_scheme() -> None:
    service = open_service(source_parameters("oqmd", "https://oqmd.org/"))
    assert isinstance(service, OqmdRest)
    assert service.url == OqmdRest(service.query).url == "https://oqmd.org/oqmdapi/formationenergy"
    scheme = service.scheme("2026-01-01")
    assert (scheme.source, scheme.functional, scheme.elemental_references) == ("oqmd", "pbe+u", "OQMD fit")
