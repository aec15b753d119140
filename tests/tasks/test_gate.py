"""Politeness towards a service: a rate and a number of requests at once, over all that read from it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
from prefect import flow, get_client, task
from prefect.task_runners import ThreadPoolTaskRunner

from loopback.fault_proxy import FaultProxy
from loopback.oqmd_server import OQMDServer
from loopback.records import Compound
from reading import SWIFT, source_parameters
from storage.pages import PageFolder
from tasks.gate import service_gate
from tasks.sources.catalog import open_service
from tasks.sources.service import read_all

PAGE_S = 0.05
PAGES = 7


class SlowOQMD(OQMDServer):
    def answer(self, path: str, query: dict[str, str], headers: Message) -> tuple[int, Any]:
        time.sleep(PAGE_S)
        return super().answer(path, query, headers)


@pytest.fixture
def proxy(made_up: tuple[Compound, ...]) -> Iterator[FaultProxy]:
    with SlowOQMD(made_up) as server, FaultProxy(server.url) as proxy:
        yield proxy


def read_through(gate: Callable[[], AbstractContextManager[Any]], url: str, folder: Path) -> int:
    service = open_service(source_parameters("oqmd", url, page_size=100))
    addresses, _ = read_all(service, PageFolder(folder), SWIFT, gate)
    return len(addresses)


@task(persist_result=False)
def reading(name: str, rate: float, at_once: int, url: str, folder: Path) -> int:
    return read_through(service_gate(name, rate, at_once), url, folder)


def read_at_once(n_readers: int, name: str, rate: float, at_once: int, url: str, folder: Path) -> list[int]:
    """Let several readers read everything through one limit."""

    @flow(task_runner=ThreadPoolTaskRunner(max_workers=n_readers))
    def readers() -> list[int]:
        runs = [reading.submit(name, rate, at_once, url, folder / str(number)) for number in range(n_readers)]
        return [run.result() for run in runs]

    found: list[int] = readers()
    return found


@pytest.mark.parametrize(("n_readers", "at_once", "rate"), [(2, 1, 12.0), (3, 2, 25.0)])
def test_readers_share_one_limit(
    prefect_server: object, proxy: FaultProxy, tmp_path: Path, n_readers: int, at_once: int, rate: float
) -> None:
    name = f"gate test {at_once}"
    assert read_at_once(n_readers, name, rate, at_once, proxy.url, tmp_path) == [PAGES] * n_readers
    assert proxy.peak <= at_once
    times = sorted(one.at for one in proxy.log)
    assert len(times) == n_readers * PAGES
    # the first of every slot come together
    assert (len(times) - at_once) / (times[-1] - times[0]) <= 1.05 * rate
    with get_client(sync_client=True) as client:
        limit = client.read_global_concurrency_limit_by_name(f"elemscreen-gate-test-{at_once}")
    assert (limit.limit, limit.active) == (at_once, True)


def test_without_a_shared_limit_readers_are_impolite(proxy: FaultProxy, tmp_path: Path) -> None:
    """What the limit is for: outside of a flow every reader keeps the pace on its own."""
    gates = [service_gate("gate test", 1000.0, 1) for _ in range(2)]
    threads = [
        threading.Thread(target=read_through, args=(gate, proxy.url, tmp_path / str(number)))
        for number, gate in enumerate(gates)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert proxy.peak == 2


def test_the_pace_of_one_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        clock[0] += seconds

    monkeypatch.setattr("tasks.gate.time.monotonic", lambda: clock[0])
    monkeypatch.setattr("tasks.gate.time.sleep", sleep)
    gate = service_gate("gate test", 4.0, 1)
    entered: list[float] = []
    for work in (0.0, 0.1, 0.2, 0.9, 0.0, 0.0):
        with gate():
            entered.append(clock[0])
            clock[0] += work
    assert entered == pytest.approx([100.0, 100.25, 100.5, 100.75, 101.65, 101.9])
    assert pauses == pytest.approx([0.25, 0.15, 0.05, 0.25])
