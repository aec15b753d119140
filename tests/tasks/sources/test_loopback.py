"""The servers on 127.0.0.1 answer real clients, and each fault of the proxy does what it says on the wire."""

from __future__ import annotations

import http.client
import json
import re
import socket
import threading
import time
from collections import Counter
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from loopback.fault_proxy import FaultProxy
from loopback.faults import LOUD, SILENT, Fault, Schedule
from loopback.mp_server import MPServer
from loopback.optimade_server import OptimadeServer
from loopback.oqmd_server import OQMDServer
from loopback.records import Compound, compounds
from loopback.tampering import Page
from loopback.wire import mp_id, optimade_id, structure_dict

SUMMARY = "/materials/summary/?_fields=material_id,volume,formation_energy_per_atom&_limit=50&_skip="
OQMD = "/oqmdapi/formationenergy?fields=name,entry_id,delta_e,volume&limit=50&offset="


@pytest.fixture(scope="session")
def key(mp_server: MPServer) -> dict[str, str]:
    return {"X-API-KEY": mp_server.api_key}


def rows(server: FaultProxy | OQMDServer, path: str, names: str = "entry_id") -> list[Any]:
    """Values of one field over all pages, by the links of the answers."""
    found, address = [], server.url + path
    while address:
        document = requests.get(address, timeout=10).json()
        found += [row[names] for row in document["data"]]
        address = document["links"]["next"]
        if isinstance(address, dict):
            address = address["href"]
    return found


def test_compounds_are_plausible_and_always_the_same() -> None:
    from pymatgen.core import Structure

    made = compounds()
    assert len(made) == len({one.number for one in made}) == 600
    assert compounds.__wrapped__() == made
    assert compounds(seed=12) != made
    assert max(Counter(one.formula for one in made).values()) > 1
    assert {"He", "Ar", "Po"} <= {element for one in made for element in one.elements}
    assert sum(one.energy is None for one in made) == 2
    assert {2, 3} == {len(one.elements) for one in made}
    assert 100 < sum(one.bulk is not None for one in made) < 500
    for one in made[::20]:
        structure = Structure.from_dict(structure_dict(one))
        assert structure.composition.reduced_formula == one.formula
        assert structure.volume == pytest.approx(one.volume, rel=1e-4)
        assert structure.is_valid(tol=1.0)


def test_the_best_polymorph_is_the_nearest_to_the_hull() -> None:
    for one in compounds():
        for other in compounds():
            if one.formula == other.formula and one.energy is not None and other.energy is not None:
                assert one.hull - other.hull == pytest.approx(one.energy - other.energy, abs=2e-6)
                assert one.hull >= 0


# real clients through a proxy without faults


def test_the_materials_project_client_gets_all_rows(
    mp_server: MPServer, fault_proxy: Any, made_up: tuple[Compound, ...]
) -> None:
    from mp_api.client import MPRester

    proxy = fault_proxy(mp_server)
    options = {"use_document_model": False, "mute_progress_bars": True}
    with MPRester(api_key=mp_server.api_key, endpoint=proxy.url, **options) as client:
        assert client.db_version == "2025.09.25"
        fields = ["material_id", "formation_energy_per_atom", "structure"]
        found = client.materials.summary.search(deprecated=False, chunk_size=100, fields=fields)
        thermo = client.materials.thermo.search(thermo_types=["R2SCAN"], fields=["material_id"])
        elastic = client.materials.elasticity.search(k_vrh=(0, 1e6), chunk_size=50)
        some = client.materials.summary.search(elements=["Li", "O"], fields=["chemsys"])
        open_ones = client.materials.summary.search(include_gnome=False, fields=["builder_meta"])
    assert {row["material_id"]: row["formation_energy_per_atom"] for row in found} == {
        mp_id(one): one.energy for one in made_up
    }
    assert {row["material_id"] for row in thermo} == {mp_id(one) for one in made_up}
    assert {row["material_id"] for row in elastic} == {mp_id(one) for one in made_up if one.bulk}
    assert some
    assert all({"Li", "O"} <= set(row["chemsys"].split("-")) for row in some)
    assert {row["builder_meta"]["license"] for row in open_ones} == {"BY-C"}
    assert len(proxy.pages()) == len([one for one in proxy.log if one.target != "/heartbeat"]) + 1
    assert mp_server.api_key not in repr(proxy.log)


@pytest.mark.parametrize("next_as_object", [False, True])
def test_all_rows_of_oqmd_by_its_links(fault_proxy: Any, made_up: tuple[Compound, ...], next_as_object: bool) -> None:
    with OQMDServer(made_up, next_as_object) as server:
        proxy = fault_proxy(server)
        found = rows(proxy, "/oqmdapi/formationenergy?limit=200&noduplicate=True")
        everything = rows(proxy, "/oqmdapi/formationenergy?limit=200&fields=entry_id")
    assert found == [one.number for one in made_up]
    assert len(everything) == len(set(everything)) == 624
    assert len(proxy.pages()) == 3 + 4  # each answered by the proxy, not past it


@pytest.mark.parametrize("optimade_server", ["oqmd", "jarvis"], indirect=True)
def test_the_optimade_client_gets_all_rows(
    optimade_server: OptimadeServer, fault_proxy: Any, made_up: tuple[Compound, ...]
) -> None:
    from optimade.client import OptimadeClient

    proxy = fault_proxy(optimade_server)
    energy = optimade_server.fields["energy"]
    client = OptimadeClient(base_urls=[proxy.url], use_async=False, max_results_per_provider=0, silent=True)
    found = client.get(response_fields=["species", energy])["structures"][""][proxy.url]
    assert not found["errors"]
    assert {row["id"]: row["attributes"][energy] for row in found["data"]} == {
        optimade_id(one, optimade_server.prefix): one.energy for one in made_up
    }
    assert len(proxy.pages()) == 6


# what the servers do


def test_a_key_is_needed(mp_server: MPServer, key: dict[str, str]) -> None:
    address = mp_server.url + "/materials/summary/"
    assert requests.get(address, timeout=10).status_code == 401
    assert requests.get(address, headers={"X-API-KEY": "0" * 32}, timeout=10).status_code == 403
    assert requests.get(address, headers=key, timeout=10).status_code == 200
    assert requests.get(mp_server.url + "/heartbeat", timeout=10).json()["status"] == "OK"


def test_missing_fields_are_null_and_unknown_parameters_refused(mp_server: MPServer, key: dict[str, str]) -> None:
    address = mp_server.url + "/materials/summary/"
    row = requests.get(f"{address}?_fields=material_id,efermi&_limit=1", headers=key, timeout=10).json()["data"][0]
    assert set(row) == {"material_id", "efermi"}
    assert row["efermi"] is None
    assert requests.get(f"{address}?limit=10", headers=key, timeout=10).status_code == 400
    assert requests.get(f"{address}?_limit=1001", headers=key, timeout=10).status_code == 400


def test_filters_of_oqmd(oqmd_server: OQMDServer, made_up: tuple[Compound, ...]) -> None:
    def names(query: str) -> set[str]:
        return set(rows(oqmd_server, f"/oqmdapi/formationenergy?fields=name&{query}", "name"))

    assert names("composition=Li-O") == {one.formula for one in made_up if set(one.elements) <= {"Li", "O"}}
    assert names("composition=O1Li2") == {"Li2O"}
    assert names("filter=element_set=Li,(O-S) AND ntypes=2") == {"Li2O", "Li2S"}
    assert names("filter=nonsense") == set()
    last = requests.get(oqmd_server.url + "/oqmdapi/formationenergy?limit=600&offset=600", timeout=10).json()
    assert last["links"]["next"] is None
    assert last["meta"]["data_returned"] == len(last["data"]) == 24
    assert last["meta"]["more_data_available"] is True  # the real one's habit


# faults on the wire


@pytest.fixture
def get(mp_server: MPServer, key: dict[str, str], fault_proxy: Any) -> Any:
    """Send one request through a proxy that always has one fault; give answer, rows of a sound one, the log's entry."""

    def request(fault: Fault, skip: int = 100, seed: int = 0, **options: Any) -> tuple[Any, list[Any], Any]:
        proxy = fault_proxy(mp_server, Schedule.always(fault, seed=seed), **options)
        connection = http.client.HTTPConnection(*proxy.server_address[:2], timeout=2)
        connection.request("GET", f"{SUMMARY}{skip}", headers=key)
        sound = requests.get(f"{mp_server.url}{SUMMARY}{skip}", headers=key, timeout=10).json()["data"]
        return connection.getresponse(), sound, proxy.log[0]

    return request


@pytest.mark.parametrize("wait", ["0", "1", "date"])
def test_rate_limit(get: Any, wait: str) -> None:
    answer, _, entry = get(Fault.RATE_LIMIT, retry_after=(wait,))
    assert answer.status == entry.status == 429
    said = answer.headers["Retry-After"]
    assert parsedate_to_datetime(said).timestamp() - time.time() < 1.5 if wait == "date" else said == wait
    assert (entry.fault, entry.note) == (Fault.RATE_LIMIT, said)


def test_errors_of_the_server(get: Any) -> None:
    answer, _, _ = get(Fault.INTERNAL)
    assert (answer.status, answer.headers["Retry-After"]) == (500, None)
    said = {get(Fault.UNAVAILABLE, seed=seed)[0].headers["Retry-After"] for seed in range(20)}
    assert {None, "0", "1"} < said


def test_reset(get: Any) -> None:
    with pytest.raises(ConnectionResetError):
        get(Fault.RESET)


def test_hang_ends_with_the_client_or_the_proxy(mp_server: MPServer, key: dict[str, str], fault_proxy: Any) -> None:
    proxy = fault_proxy(mp_server, Schedule.scripted([Fault.HANG, None, Fault.HANG]))
    with pytest.raises(requests.ReadTimeout):
        requests.get(f"{proxy.url}{SUMMARY}0", headers=key, timeout=0.2)
    assert requests.get(f"{proxy.url}{SUMMARY}0", headers=key, timeout=5).status_code == 200
    assert [one.fault for one in proxy.log] == [Fault.HANG, None]
    assert proxy.peak == 1  # the one that hung was over when the next one came
    ended: list[BaseException] = []

    def ask() -> None:
        try:
            requests.get(f"{proxy.url}{SUMMARY}0", headers=key, timeout=30)
        except requests.ConnectionError as error:
            ended.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    while len(proxy.log) < 3:
        time.sleep(0.01)
    proxy.close()
    thread.join(timeout=5)
    assert len(ended) == 1


def test_truncated(get: Any) -> None:
    answer, _, entry = get(Fault.TRUNCATED)
    with pytest.raises(http.client.IncompleteRead) as caught:
        answer.read()
    assert 0 < len(caught.value.partial) < int(answer.headers["Content-Length"])
    assert (entry.fault, entry.status) == (Fault.TRUNCATED, 200)


def test_truncated_json(get: Any) -> None:
    answer, _, _ = get(Fault.TRUNCATED_JSON)
    body = answer.read()
    assert len(body) == int(answer.headers["Content-Length"])
    with pytest.raises(json.JSONDecodeError):
        json.loads(body)


def test_html(get: Any) -> None:
    answer, _, _ = get(Fault.HTML)
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/html")
    assert answer.read().startswith(b"<!DOCTYPE html>")


def test_duplicated(mp_server: MPServer, get: Any, made_up: tuple[Compound, ...]) -> None:
    answer, _, entry = get(Fault.DUPLICATED, skip=100)
    got = [row["material_id"] for row in json.loads(answer.read())["data"]]
    assert got == [mp_id(one) for one in made_up[50:100]]
    assert entry.fault is Fault.DUPLICATED
    answer, sound, entry = get(Fault.DUPLICATED, skip=0)  # there is no page before the first
    assert json.loads(answer.read())["data"] == sound
    assert entry.fault is None


def test_shifted(get: Any, made_up: tuple[Compound, ...]) -> None:
    ids, shifts = [mp_id(one) for one in made_up], set()
    for seed in range(12):
        document = json.loads(get(Fault.SHIFTED, seed=seed)[0].read())
        first = ids.index(document["data"][0]["material_id"])
        assert [row["material_id"] for row in document["data"]] == ids[first : first + 50]
        assert document["meta"]["total_doc"] == 600
        shifts.add(first - 100)
    assert shifts <= {-3, -2, -1, 1, 2, 3}
    assert min(shifts) < 0 < max(shifts)


@pytest.mark.parametrize("next_as_object", [False, True])
def test_links_of_a_shifted_page_are_those_of_the_page_asked_for(fault_proxy: Any, next_as_object: bool) -> None:
    with OQMDServer(next_as_object=next_as_object) as server:
        proxy = fault_proxy(server, Schedule.scripted([None, Fault.SHIFTED]))
        found = rows(proxy, f"{OQMD}0")
        asked = [Page.of(one.target).offset for one in proxy.log]  # type: ignore[union-attr]
    assert asked == list(range(0, 624, 50))
    assert proxy.faults() == {Fault.SHIFTED: 1}
    assert 1 <= len(found) - len(set(found)) <= 3


def test_missing_field(get: Any) -> None:
    answer, sound, entry = get(Fault.MISSING_FIELD)
    differing = [(a, b) for a, b in zip(json.loads(answer.read())["data"], sound, strict=True) if a != b]
    [(got, whole)] = differing
    assert len(got) == len(whole) - 1
    assert entry.note == f"row {sound.index(whole)}: {(set(whole) - set(got)).pop()} removed"


def test_changed_type(get: Any) -> None:
    kinds = set()
    for seed in range(30):
        answer, sound, entry = get(Fault.CHANGED_TYPE, seed=seed)
        [(got, whole)] = [(a, b) for a, b in zip(json.loads(answer.read())["data"], sound, strict=True) if a != b]
        [name] = [name for name in whole if got[name] != whole[name]]
        assert type(got[name]) is not type(whole[name])
        assert name in entry.note
        kinds.add((name == "material_id", type(got[name])))
    assert {(True, int), (False, str), (False, list), (False, dict)} <= kinds


def test_silent_faults_of_optimade(optimade_server: OptimadeServer, fault_proxy: Any) -> None:
    path = "/v1/structures?page_limit=20&response_fields=nsites"
    for fault, other in {Fault.SHIFTED: None, Fault.DUPLICATED: 20}.items():
        proxy = fault_proxy(optimade_server, Schedule.scripted([None, fault]))
        first = requests.get(proxy.url + path, timeout=10).json()
        second = requests.get(first["links"]["next"], timeout=10).json()
        after = Page.of(re.sub("^http://[^/]*", "", second["links"]["next"]))
        assert first["links"]["next"].startswith(proxy.url)
        assert after.offset == (other or 40)  # type: ignore[union-attr]
        assert proxy.faults() == {fault: 1}


def test_a_seeded_schedule_is_reproducible() -> None:
    targets = [f"{SUMMARY}{skip}" for skip in range(0, 600, 50)]

    def drawn(seed: int, order: list[str]) -> dict[str, list[Fault | None]]:
        schedule = Schedule.seeded(seed, rate=0.5, faults=(*LOUD, *SILENT))
        return {target: [schedule.draw(target).fault for _ in range(40)] for target in order}

    assert drawn(5, targets) == drawn(5, targets[::-1])
    assert drawn(5, targets) != drawn(6, targets)
    everything = [fault for faults in drawn(5, targets).values() for fault in faults]
    assert set(everything) == {None, *LOUD, *SILENT}
    assert 0.35 < sum(fault is not None for fault in everything) / len(everything) < 0.55


def test_no_page_fails_too_often_in_a_row() -> None:
    schedule = Schedule.seeded(1, rate=1.0, max_consecutive=2)
    fails = [schedule.draw("/a").fault is not None for _ in range(9)]
    assert fails == [True, True, False] * 3


def test_what_a_schedule_matches() -> None:
    schedule = Schedule.scripted([Fault.RESET, None, Fault.HTML], match="page")
    assert [schedule.draw(target).fault for target in ("/a", "/page", "/page", "/b", "/page", "/page")] == [
        None, Fault.RESET, None, None, Fault.HTML, None,
    ]  # fmt: skip
    assert Schedule.always(Fault.HTML, match="page").draw("/a").fault is None
    assert Schedule.seeded(1, rate=1.0, match="page").draw("/a").fault is None


def test_the_same_faults_befall_another_run(oqmd_server: OQMDServer, fault_proxy: Any) -> None:
    def run() -> list[tuple[str, Fault | None, str, int | None]]:
        faults = (Fault.INTERNAL, Fault.HTML, Fault.CHANGED_TYPE, Fault.MISSING_FIELD, Fault.SHIFTED)
        proxy = fault_proxy(oqmd_server, Schedule.seeded(3, rate=0.6, faults=faults))
        with requests.Session() as session:
            for offset in (*range(0, 300, 50), *range(0, 300, 50)):
                session.get(f"{proxy.url}{OQMD}{offset}", timeout=10)
        return [(one.target, one.fault, one.note, one.status) for one in proxy.log]

    first = run()
    assert first == run()
    assert len({fault for _, fault, _, _ in first}) > 3


def test_the_log_knows_what_was_in_flight(oqmd_server: OQMDServer, fault_proxy: Any) -> None:
    proxy = fault_proxy(oqmd_server, Schedule.always(Fault.HANG, match="offset=100"))
    with requests.Session() as session:
        for offset in (0, 50, 0):
            session.get(f"{proxy.url}{OQMD}{offset}", headers={"Authorization": "Bearer secret"}, timeout=10)
    assert proxy.peak == 1
    assert proxy.pages() == {f"{OQMD}0": 2, f"{OQMD}50": 1}
    assert [one.headers["authorization"] for one in proxy.log] == ["(hidden)"] * 3
    assert all(one.until is not None and one.until >= one.at for one in proxy.log)
    where = urlsplit(proxy.url)
    waiting = [socket.create_connection((where.hostname, where.port)) for _ in range(3)]
    for connection in waiting:
        connection.sendall(f"GET {OQMD}100 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    while len(proxy.log) < 6:
        time.sleep(0.01)
    for connection in waiting:
        connection.close()
    requests.get(f"{proxy.url}{OQMD}0", timeout=10)
    assert proxy.peak == 3


def test_a_closed_proxy_answers_nobody(oqmd_server: OQMDServer, fault_proxy: Any) -> None:
    proxy = fault_proxy(oqmd_server)
    with requests.Session() as session:
        assert session.get(f"{proxy.url}{OQMD}0", timeout=10).status_code == 200
        proxy.close()
        with pytest.raises(requests.ConnectionError):
            session.get(f"{proxy.url}{OQMD}0", timeout=10)


def test_a_proxy_before_nothing_says_so(fault_proxy: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    proxy = fault_proxy(f"http://127.0.0.1:{port}")
    assert requests.get(f"{proxy.url}/heartbeat", timeout=10).status_code == 502
    assert requests.post(f"{proxy.url}/heartbeat", timeout=10).status_code == 405
