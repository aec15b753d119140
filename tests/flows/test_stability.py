"""The flow `stability` and its page, on a Prefect server and a Dask cluster with two worker processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from benchmarks import accuracy_stability as benchmark
from flows.stability import StabilityParameters
from storage.store import ArtifactStore
from tasks.validation_parameters import EntryParameters


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_three_settings_to_the_page(prefect_server: object, tiny: Any, tmp_path: Path) -> None:
    store, page = tmp_path / "store", tmp_path / "pages" / "stability.md"
    given = ["--data", str(tiny.energies_file), "--store", str(store), "--dask", str(tiny.cluster_file)]
    given += ["--epochs", "2", "--preset", "small", "--folds", "2", "--entry", "elemnet", "--entry", "linear"]
    benchmark.main([*given, "--page", str(page), "--note", "Nothing else ran."])
    text = page.read_text()
    for title in benchmark.TITLES.values():
        assert f"## {title}" in text
    assert text.count("| linear |") == text.count("| elemnet |") == 3
    assert "Nothing else ran." in text
    held = ArtifactStore(store)
    assert len(held.list("fold")) == 3 * 2 * 2
    assert [held.manifest(ref).counts["rows"] for ref in held.list("stability")] == [len(tiny.energies)] * 3
    benchmark.main([*given, "--page", str(page)])  # nothing is trained again
    assert len(held.list("fold")) == 3 * 2 * 2
    assert len(held.list("stability")) == 3


def test_entries_need_names_of_their_own() -> None:
    with pytest.raises(ValidationError, match="different names"):
        StabilityParameters(entries=(EntryParameters(name="x"), EntryParameters(name="x")))
    judged = [(setting.judged, setting.scheme) for setting in StabilityParameters().settings]
    assert judged == [("all_predicted", "random"), ("training_competitors", "grouped"), ("direct", "random")]
