"""The flow `featurize` and its command, on a Prefect server and a Dask cluster with two worker processes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from flows.featurize import FeaturizeFlowParameters, featurize
from models.magpie import MAGPIE_NAMES
from storage.store import ArtifactStore
from tasks.attributes import FeaturizeParameters
from tasks.progress import listen


def test_structures_over_the_workers_and_once_more_from_the_store(scheduler: str, tiny: Any, tmp_path: Path) -> None:
    """The workers are daemons, which may have no children of multiprocessing."""
    table = tmp_path / "few.parquet"
    tiny.structures.head(2).to_parquet(table)
    parameters = FeaturizeFlowParameters(
        store=str(tmp_path / "store"),
        cluster=scheduler,
        data=str(table),
        featurizing=FeaturizeParameters(features="voronoi", chunk=1),
    )
    events: list[dict[str, Any]] = []
    stop = listen(events.append)
    try:
        ref = featurize(parameters)
        again = featurize(parameters)
    finally:
        stop()
    assert again == ref
    store = ArtifactStore(tmp_path / "store")
    assert store.manifest(ref).counts == {"rows_in": 2, "rows_kept": 2, "rows_rejected": 0, "without_structure": 0}
    states = [event["state"] for event in events if event["event"] == "stage" and event["kind"] == "attributes"]
    assert list(dict.fromkeys(states)) == ["building", "built", "cached"]  # the fixture listens to the cluster too


def test_the_command_writes_a_column_per_attribute(
    scheduler: str, tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from deployments.cli import _run

    place = ["--store", str(tmp_path / "store"), "--dask", scheduler]
    given = ["featurize", "--in", str(tiny.energies_file)]

    def run(*options: str) -> tuple[int, str, str]:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["elemscreen", *given, *options, *place])
        code = _run()
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    out = tmp_path / "attributes.csv"
    code, said, _ = run("--out", str(out))
    assert code == 0
    assert f"rows in {len(tiny.energies)}, kept {len(tiny.energies)}, rejected 0" in said
    frame = pd.read_csv(out)
    assert list(frame.columns[-145:]) == list(MAGPIE_NAMES)
    assert frame["formula"].tolist()[0] == "Li2O2"  # the peroxide; its attributes are those of the ratio 1:1
    assert frame["MagpieData mean Number"].tolist()[0] == (3 + 8) / 2
    code, said, _ = run("--features", "magpie")
    folder = Path(said.strip().splitlines()[-1])
    assert code == 0
    assert len(pd.read_parquet(folder)) == len(frame)
    assert json.loads((folder.parent / "names.json").read_text())["names"] == list(MAGPIE_NAMES)
    for options, words in ((("--features", "soap"), "features"), (("--out", "table.xlsx"), "no ending of a table")):
        code, _, complaint = run(*options)
        assert code == 2
        assert words in complaint
        assert len(complaint.strip().splitlines()) == 1
