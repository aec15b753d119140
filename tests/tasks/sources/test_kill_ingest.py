"""An ingest that is killed with SIGKILL goes on after its last page and ends with the same artifact."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from email.message import Message
from pathlib import Path
from typing import Any

import pytest

from loopback.fault_proxy import FaultProxy
from loopback.mp_server import API_KEY, MPServer
from loopback.optimade_server import OptimadeServer
from loopback.oqmd_server import OQMDServer
from loopback.records import Compound
from reading import source_parameters
from reliability import record
from storage.store import ArtifactStore
from tasks.ingest import ingest
from tasks.parameters import ServiceParameters
from tasks.stage import reference

CHILD = """
import json, sys
from tasks.ingest import ingest
from tasks.parameters import SourceParameters
ingest.fn(sys.argv[1], SourceParameters(**json.loads(sys.argv[2])))
"""
PAGE_S = 0.02
SOURCES = ("oqmd", "mp", "optimade")
#: kills of the long proof
MANY = {"oqmd": 17, "mp": 17, "optimade": 16}


class SlowMP(MPServer):
    def answer(self, path: str, query: dict[str, str], headers: Message) -> tuple[int, Any]:
        time.sleep(PAGE_S)
        return super().answer(path, query, headers)


class SlowOQMD(OQMDServer):
    def answer(self, path: str, query: dict[str, str], headers: Message) -> tuple[int, Any]:
        time.sleep(PAGE_S)
        return super().answer(path, query, headers)


class Ingests:
    """Ingests of one source through one proxy, and what an undisturbed one ends with."""

    def __init__(self, source: str, server: MPServer | OQMDServer | OptimadeServer, folder: Path) -> None:
        self.proxy = FaultProxy(server.url)
        parameters = source_parameters(source, self.proxy.url, page_size=20)
        service = ServiceParameters(endpoint=self.proxy.url, requests_per_second=10_000.0, concurrency=1)
        self.parameters = parameters.model_copy(update={"service": service})
        self.digest = self.run(folder / "undisturbed")
        self.pages = self.pages_read()

    def run(self, root: Path) -> str:
        """Run an ingest to its end; the verified digest of its artifact."""
        ref = reference(ingest.fn(str(root), self.parameters))
        return ArtifactStore(str(root)).verify(ref).digest

    def pages_read(self) -> dict[str, int]:
        return {name: n for name, n in self.proxy.pages().items() if "limit=" in name}

    def killed(self, root: Path, n_pages: int, pause_s: float) -> None:
        """Run an ingest in a process of its own and kill that once it has so many pages, and a moment later."""
        root.parent.mkdir(parents=True, exist_ok=True)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        environment |= {"PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry), "MP_API_KEY": API_KEY}
        command = [sys.executable, "-c", CHILD, str(root), self.parameters.model_dump_json()]
        output = root.parent / "output.txt"
        with output.open("wb") as log:
            child = subprocess.Popen(command, env=environment, cwd=root.parent, stdout=log, stderr=log)
        deadline = time.monotonic() + 60
        while len(self.pages_read()) < n_pages:
            assert child.poll() is None, output.read_text()
            assert time.monotonic() < deadline, "the moment to kill never came"
            time.sleep(0.001)
        time.sleep(pause_s)
        child.kill()
        assert child.wait(timeout=20) == -9, "the run was over before it was killed"

    def check(self, root: Path, seed: int) -> int:
        """Kill one ingest at a random moment, end it, and return how many pages it asked for twice."""
        source = random.Random(seed)
        self.proxy.forget()
        self.killed(root, source.randint(1, len(self.pages) - 3), source.uniform(0.0, 2 * PAGE_S))
        had = self.pages_read()
        assert 0 < len(had) < len(self.pages)
        assert set(had.values()) == {1}
        assert not any(root.glob("*/manifest.json"))
        assert self.run(root) == self.digest
        again = {name: n for name, n in self.pages_read().items() if n > 1}
        assert set(self.pages_read()) == set(self.pages)
        # at most the page that was under way at the kill
        assert list(again.values()) in ([], [2])
        return len(again)


@pytest.fixture
def ingests(
    request: pytest.FixtureRequest,
    made_up: tuple[Compound, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Ingests]:
    monkeypatch.setenv("MP_API_KEY", API_KEY)
    server: Any
    if request.param == "optimade":
        server = request.getfixturevalue("optimade_server")
        found = Ingests(request.param, server, tmp_path)
        yield found
    else:
        with SlowMP(made_up) if request.param == "mp" else SlowOQMD(made_up) as server:
            found = Ingests(request.param, server, tmp_path)
            yield found
    found.proxy.close()
    assert found.proxy.errors == []


@pytest.mark.parametrize(("ingests", "seed"), list(zip(SOURCES, (1, 2, 3), strict=True)), indirect=["ingests"])
def test_killed_while_it_reads(ingests: Ingests, tmp_path: Path, seed: int) -> None:
    ingests.check(tmp_path / "killed" / "store", seed)


@pytest.mark.soak
@pytest.mark.timeout(0)
@pytest.mark.parametrize(("ingests", "kills"), list(MANY.items()), indirect=["ingests"])
def test_killed_at_many_moments(ingests: Ingests, tmp_path: Path, kills: int, request: pytest.FixtureRequest) -> None:
    began = time.monotonic()
    twice = sum(ingests.check(tmp_path / f"killed-{seed}" / "store", 500 + seed) for seed in range(kills))
    record(
        "kills of an ingest",
        source=request.node.callspec.params["ingests"],
        kills=kills,
        equal=kills,
        pages=len(ingests.pages),
        pages_asked_twice=twice,
        seconds=round(time.monotonic() - began, 1),
    )


def test_killed_twice(made_up: tuple[Compound, ...], tmp_path: Path) -> None:
    """Each run goes on where the one before was killed."""
    with SlowOQMD(made_up) as server:
        ingests = Ingests("oqmd", server, tmp_path)
        root = tmp_path / "killed" / "store"
        ingests.proxy.forget()
        ingests.killed(root, 8, 0.0)
        n_first = len(ingests.pages_read())
        ingests.killed(root, n_first + 8, 0.0)
        assert ingests.run(root) == ingests.digest
        assert sum(ingests.pages_read().values()) <= len(ingests.pages) + 2
        ingests.proxy.close()
