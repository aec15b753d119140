"""Freed memory is kept for as long as a training lasts, and given back afterwards."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure
from torch import nn

from models import training
from models.crystal_graph import build_graphs
from models.freed_memory import freed_memory_kept
from models.moduli_training import ModuliTraining, train_moduli
from models.training import TrainingParameters, train_network

glibc = pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"), reason="glibc only"
)

COUNT = """
import ctypes, json, resource, sys
sys.path[:0] = json.loads(sys.argv[1])
from models.freed_memory import freed_memory_kept

def pages():
    return int(open("/proc/self/statm").read().split()[1])

def faults():
    # of eight blocks of 2 MiB, which exist at the same time
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [ctypes.create_string_buffer(2**21) for _ in range(8)]
    for block in blocks:
        ctypes.memset(block, 1, 2**21)
    while blocks:
        blocks.pop()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
without = faults()
with freed_memory_kept():
    faults()
    kept, within = faults(), pages()
print(json.dumps({"without": without, "kept": kept, "returned": within - pages()}))
"""


@glibc
def test_blocks_are_made_of_the_pages_of_the_last_ones_until_the_end() -> None:
    """In a process of its own: what a heap does depends on all that was freed before."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    command = [sys.executable, "-c", COUNT, json.dumps(sys.path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    of_blocks = 8 * 2**21 // os.sysconf("SC_PAGESIZE")
    assert found["without"] > of_blocks // 2
    assert found["kept"] < of_blocks // 100
    assert found["returned"] > of_blocks // 2


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")

    def none(_: object) -> object:
        raise AssertionError("no library is loaded")

    monkeypatch.setattr(ctypes, "CDLL", none)
    with freed_memory_kept():
        pass


@glibc
def test_what_the_environment_sets_holds_again(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, int]] = []

    class Library:
        def mallopt(self, name: int, value: int) -> None:
            calls.append((name, value))

        def malloc_trim(self, _: int) -> None:
            calls.append((0, 0))

    monkeypatch.setattr(ctypes, "CDLL", lambda _: Library())
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "65536")
    with freed_memory_kept():
        assert calls == [(-3, 2**25), (-1, 2**29)]
        calls.clear()
    assert calls == [(-1, 65536), (-3, 2**25), (0, 0)]


@pytest.fixture
def entered(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A word for every time that a training begins to keep freed memory."""
    seen: list[str] = []

    @contextlib.contextmanager
    def kept() -> Iterator[None]:
        seen.append("kept")
        yield

    monkeypatch.setattr(training, "freed_memory_kept", kept)
    return seen


def test_networks_are_trained_with_it(entered: list[str]) -> None:
    x = np.linspace(0, 1, 8, dtype=np.float32)[:, None]
    settings = TrainingParameters(epochs=1, batch_size=4)
    train_network(x, x[:, 0], None, None, settings, build=lambda: nn.Linear(1, 1))
    assert entered == ["kept"]


def test_networks_of_moduli_are_trained_with_it(entered: list[str]) -> None:
    salts = [Structure(Lattice.cubic(a), ["Li", "F"], [[0, 0, 0], [0.5] * 3]) for a in (2.6, 2.8, 3.0)]
    graphs, _ = build_graphs(salts)
    train_moduli(graphs, [1.0, 1.2, 1.4], [0.8, 0.9, 1.0], ModuliTraining(epochs=1))
    assert entered == ["kept"]
