"""The flow `rank` learns from one table or from several, on a Prefect server and a Dask cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flows.parameters import RankFlowParameters
from flows.rank import rank
from storage.store import ArtifactStore
from tasks.parameters import ModuliParameters


def test_moduli_are_learnt_from_one_table_or_from_several(scheduler: str, tiny: Any, tmp_path: Path) -> None:
    most = tmp_path / "most.parquet"
    tiny.structures.iloc[5:].to_parquet(most)  # all of them would be the same crystals in the same order
    halves = [tmp_path / "first.parquet", tmp_path / "second.parquet"]
    for file, half in zip(halves, (tiny.structures.iloc[:40], tiny.structures.iloc[40:]), strict=True):
        half.to_parquet(file)
    store = ArtifactStore(tmp_path / "store")

    def inputs_of_the_network(structures: str) -> list[str]:
        parameters = RankFlowParameters(
            store=store.root,
            cluster=scheduler,
            electrolytes=str(halves[0]),
            structures=structures,
            moduli=ModuliParameters(members=1, epochs=1, settings={"n_trees": 5}),
        )
        ref = rank(parameters)
        moduli = store.resolve(store.manifest(ref).inputs["moduli"].key)
        return sorted(store.manifest(store.resolve(store.manifest(moduli).inputs["network"].key)).inputs)

    assert inputs_of_the_network(f"{halves[0]}, {halves[1]}") == ["compounds", "compounds_2", "graphs", "graphs_2"]
    assert inputs_of_the_network(str(most)) == ["compounds", "graphs"]
    with pytest.raises(Exception, match="named twice"):
        inputs_of_the_network(f"{halves[0]},{halves[0]}")
