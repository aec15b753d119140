"""The flow `backtest` and its command, on a Prefect server and a Dask cluster with two worker processes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import backtest as page
from storage.store import ArtifactStore
from tasks.backtest import RESULT


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_both_ways_from_the_command_line_to_the_page(
    scheduler: str, tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from deployments.cli import _run

    frame = tiny.energies.copy()
    frame["release"] = np.array(["t-1", "t-2"])[(np.arange(len(frame)) % 4 == 0).astype(int)]
    file = tmp_path / "dated.parquet"
    frame.to_parquet(file)
    store = tmp_path / "store"

    def run(*options: str) -> tuple[int, str, str]:
        capsys.readouterr()
        place = ["--store", str(store), "--dask", scheduler]
        monkeypatch.setattr(sys, "argv", ["elemscreen", "backtest", *options, *place])
        monkeypatch.setenv("COLUMNS", "200")
        code = _run()
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    given = ["--source", f"file:{file}", "--map", "release=source_version", "--database", "tiny"]
    given += ["--by", "pairs", "--by", "release", "--share", "0.2", "--holdout-seed", "3", "--canary", "KF6"]
    given += ["--preset", "small", "--epochs", "2", "--threads", "1", "--known", str(tiny.known_file)]
    code, said, complaint = run(*given)
    assert code == 0, complaint
    assert "Held out: 3 pairs of elements" in said
    assert "Held out: later releases" in said
    assert said.count("KF6") == 2
    held = ArtifactStore(store)
    refs = held.list("backtest")
    assert len(refs) == 2
    ways = {
        json.loads(held.read_bytes(ref, RESULT))["holdout"]["by"]: held.manifest(ref).counts["rows"] for ref in refs
    }
    assert ways["release"] == len(frame) // 4
    assert sum(line.endswith("backtest.parquet") for line in said.splitlines()) == 2

    written = tmp_path / "backtest.md"
    monkeypatch.setattr(page, "PAGE", written)
    page.main(str(store), "Nothing else ran.")
    text = written.read_text()
    for words in (
        "## Held-out pairs of elements",
        "## Early releases against later ones",
        "Al-Cl, Ca-Na, Cl-Mg",
        "KF6",
    ):
        assert words in text
    assert text.count(f"{ways['pairs']} of them judged") == 1
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len(lines) > 60
    assert all(line.endswith("|") for line in lines)

    for options, words in (
        (("--by", "weather"), "by"),
        (("--source", f"file:{tmp_path / 'none.csv'}"), "none.csv"),
        (("--map", "release"), "COLUMN=NAME"),
        (("--canary", "Xx"), "no element"),
    ):
        code, _, complaint = run(*options)
        assert code == 2, options
        assert words in complaint
        assert len(complaint.strip().splitlines()) == 1
