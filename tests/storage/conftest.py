from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from storage.artifact import ArtifactRequest
from storage.store import ArtifactStore
from storage.writer import ArtifactWriter

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def formulas() -> pa.Table:
    return pa.table({"formula": ["NaCl", "Li2O"], "chemsys": ["Cl-Na", "Li-O"], "source": ["file", "file"]})


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "store")


@pytest.fixture
def request_for() -> Callable[..., ArtifactRequest]:
    """Makes a request of kind `formulas`; parameters by keyword."""

    def make(inputs: dict[str, Any] | None = None, kind: str = "formulas", **parameters: Any) -> ArtifactRequest:
        return ArtifactRequest(kind, "tasks.novelty", 1, parameters, inputs or {})

    return make


@pytest.fixture
def build(formulas: pa.Table) -> Callable[[ArtifactWriter], None]:
    def write(writer: ArtifactWriter) -> None:
        writer.write_table(writer.request.kind, formulas, "formulas")
        writer.count("read", 3)
        writer.reject(
            [{"row": 2, "formula": "Xx", "reason": "unknown element Xx", "record": {"formula": "Xx", "n": 1}}]
        )

    return write


@pytest.fixture
def start_python() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts `python -c code args` with the repository on its path; ends it after the test."""
    started: list[subprocess.Popen[str]] = []

    def start(code: str, *arguments: str) -> subprocess.Popen[str]:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()
