"""Whatever goes wrong on the way, the table is the one of a sound service, byte for byte."""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from loopback.fault_proxy import FaultProxy
from loopback.faults import Fault, Schedule
from loopback.mp_server import MPServer
from loopback.optimade_server import OptimadeServer
from loopback.oqmd_server import OQMDServer
from loopback.records import Compound, duplicates
from reading import raw_rows, read, reasons, source_parameters, table_bytes, taken, usable
from reliability import record
from tasks.sources.errors import SourceError

Proxy = Callable[..., FaultProxy]

SOURCES = ("oqmd", "optimade", "mp")
BOTH = [(source, source) for source in SOURCES]
PROPERTIES = {
    "mp": ("formation_energy", "structure", "elasticity", "elastic_tensor"),
    "oqmd": ("formation_energy", "structure"),
    "optimade": ("formation_energy", "structure"),
}
RATE = 0.3
#: schedules that reach nine kinds of faults; optimade sends the fewest requests
FEW = {"oqmd": 3, "optimade": 5, "mp": 3}
#: schedules of the long proof
MANY = {"oqmd": 80, "optimade": 60, "mp": 60}


@pytest.fixture
def server(request: pytest.FixtureRequest) -> MPServer | OQMDServer | OptimadeServer:
    found: MPServer | OQMDServer | OptimadeServer = request.getfixturevalue(f"{request.param}_server")
    return found


class Outcome:
    """Schedules that one source was read through, and what they did."""

    def __init__(self, source: str, server: MPServer | OQMDServer | OptimadeServer) -> None:
        self.source, self.server = source, server
        self.faults: Counter[Fault] = Counter()
        self.requests = 0
        self.rows = 0
        with self.proxy(Schedule.none()) as proxy:
            self.sound = self.table(proxy)

    @contextmanager
    def proxy(self, schedule: Schedule) -> Iterator[FaultProxy]:
        with FaultProxy(self.server.url, schedule, retry_after=("0",)) as proxy:
            yield proxy
            assert proxy.errors == []

    def table(self, proxy: FaultProxy) -> bytes:
        parameters = source_parameters(
            self.source, proxy.url, properties=PROPERTIES[self.source], page_size=60, include_restricted=True
        )
        with tempfile.TemporaryDirectory() as folder:
            rows, provenance, _ = raw_rows(parameters, Path(folder))
        made = taken(rows, provenance)
        assert len(rows) == made.table.num_rows + len(made.rejected) + made.n_merged
        self.rows = made.table.num_rows
        return table_bytes(made)

    def check(self, seed: int) -> None:
        """Read through one schedule over all kinds of faults."""
        with self.proxy(Schedule.seeded(seed, RATE, tuple(Fault))) as proxy:
            assert self.table(proxy) == self.sound, f"another table with seed {seed}"
            self.faults.update(proxy.faults())
            self.requests += len(proxy.log)


@pytest.mark.parametrize(("source", "server"), BOTH, indirect=["server"], ids=SOURCES)
def test_seeded_faults_leave_no_trace(source: str, server: Any) -> None:
    outcome = Outcome(source, server)
    for seed in range(1, FEW[source] + 1):
        outcome.check(seed)
    assert outcome.rows == 590
    assert sum(outcome.faults.values()) > 3 * FEW[source]
    assert len(outcome.faults) >= 9


@pytest.mark.soak
@pytest.mark.timeout(0)
@pytest.mark.parametrize(("source", "server"), BOTH, indirect=["server"], ids=SOURCES)
def test_many_seeded_faults_leave_no_trace(source: str, server: Any) -> None:
    began = time.monotonic()
    outcome = Outcome(source, server)
    for seed in range(1000, 1000 + MANY[source]):
        outcome.check(seed)
    assert set(outcome.faults) == set(Fault)
    record(
        "fault schedules",
        source=source,
        schedules=MANY[source],
        equal=MANY[source],
        rate=RATE,
        rows=outcome.rows,
        requests=outcome.requests,
        faults={fault.name.lower(): outcome.faults[fault] for fault in Fault},
        seconds=round(time.monotonic() - began, 1),
    )


# What no second request mends


def spoil_mp(server: MPServer, number: int, name: str, value: Any) -> None:
    for document in server.routes["/materials/summary/"]:
        if document["material_id"] == f"mp-{number}":
            document[{"formula": "formula_pretty", "energy": "formation_energy_per_atom"}[name]] = value


def spoil_oqmd(server: OQMDServer, number: int, name: str, value: Any) -> None:
    for row in server.rows:
        if row["entry_id"] == number:
            row[{"formula": "name", "energy": "delta_e"}[name]] = value


@pytest.fixture
def spoilt(made_up: tuple[Compound, ...]) -> Iterator[Callable[[str, str, Any], tuple[Any, str]]]:
    """Start a server with one row that is never right; give it and the row's name."""
    running: list[MPServer | OQMDServer] = []
    repeated = {one.duplicate_of for one in duplicates(made_up)}
    victim = next(one.number for one in usable(made_up)[150:] if not one.restricted and one.number not in repeated)

    def start(source: str, name: str, value: Any) -> tuple[Any, str]:
        if source == "mp":
            running.append(MPServer(made_up))
            spoil_mp(running[-1], victim, name, value)
        else:
            running.append(OQMDServer(made_up))
            spoil_oqmd(running[-1], victim, name, value)
        return running[-1], f"{source}-{victim}"

    yield start
    for server in running:
        server.close()


@pytest.mark.parametrize("source", ["mp", "oqmd"])
@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("formula", None, "no formula; every row needs one"),
        ("formula", ["LiF"], ""),
        ("formula", 17, ""),
        ("energy", [-1.5], "formation_energy_per_atom is not a finite number"),
        ("energy", {"value": -1.5}, "formation_energy_per_atom is not a finite number"),
        ("energy", "-1.5 eV", "formation_energy_per_atom is not a finite number"),
        ("energy", True, "formation_energy_per_atom is not a finite number"),
    ],
)
def test_a_row_that_is_never_right_is_rejected_alone(
    spoilt: Any, made_up: tuple[Compound, ...], source: str, name: str, value: Any, reason: str
) -> None:
    server, victim = spoilt(source, name, value)
    made = read(source_parameters(source, server.url, include_restricted=True))
    found = set(made.table.column("material_id").to_pylist())
    assert found == {f"{source}-{one.number}" for one in usable(made_up)} - {victim}
    text = reasons(made)[victim]
    assert text.startswith(reason)
    assert len(text) > 10


@pytest.mark.parametrize("source", ["mp", "oqmd"])
def test_a_number_as_text_is_a_number(spoilt: Any, made_up: tuple[Compound, ...], source: str) -> None:
    server, victim = spoilt(source, "energy", "-1.5")
    made = read(source_parameters(source, server.url, include_restricted=True))
    energies = dict(
        zip(
            made.table.column("material_id").to_pylist(),
            made.table.column("formation_energy_per_atom").to_pylist(),
            strict=True,
        )
    )
    assert energies[victim] == -1.5
    assert made.table.num_rows == len(usable(made_up))


@pytest.mark.parametrize("source", ["mp", "oqmd"])
def test_a_field_that_one_row_always_lacks(fault_proxy: Proxy, made_up: tuple[Compound, ...], source: str) -> None:
    """Without its formula the row is rejected; every request finds it so."""
    key = {"mp": "formula_pretty", "oqmd": "name"}[source]
    victim = usable(made_up)[200]

    class Lacking(MPServer if source == "mp" else OQMDServer):  # type: ignore[misc]
        def answer(self, *arguments: Any) -> tuple[int, Any]:
            status, document = super().answer(*arguments)
            for row in document.get("data", []) if isinstance(document, dict) else []:
                if str(row.get("material_id") or row.get("entry_id")).removeprefix("mp-") == str(victim.number):
                    row.pop(key, None)
            return status, document

    with Lacking(made_up) as server:
        made = read(source_parameters(source, server.url, include_restricted=True))
    assert made.table.num_rows == len(usable(made_up)) - 1
    assert f"{source}-{victim.number}" in reasons(made)


@pytest.mark.parametrize(("source", "server"), BOTH, indirect=["server"], ids=SOURCES)
def test_a_page_that_is_always_html_ends_in_one_line(source: str, server: Any, fault_proxy: Proxy) -> None:
    match = {"oqmd": "offset=120", "optimade": "page_offset=120", "mp": "_skip=120"}[source]
    proxy = fault_proxy(server, Schedule.always(Fault.HTML, match))
    with pytest.raises(SourceError) as caught:
        read(source_parameters(source, proxy.url, page_size=60))
    text = str(caught.value)
    assert "did not answer soundly in 12 tries (last: not JSON but '<!DOCTYPE html> <html>" in text
    assert match in text
    assert text.endswith("run again later: the pages read so far are kept")
    assert "\n" not in text
