"""Commands, run in this process."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import pytest

from command_line import Cli, Ended


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Run a command in this process."""
    from deployments.cli import _run

    def run(*arguments: str | Path) -> Ended:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["elemscreen", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "200")
        # Prefect's handlers keep the error stream of the test that made them
        monkeypatch.setattr(logging, "raiseExceptions", False)
        code = _run()
        captured = capsys.readouterr()
        return Ended(code, captured.out, captured.err)

    return run
