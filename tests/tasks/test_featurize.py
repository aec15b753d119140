"""Featurize: element fractions in the thesis's order, crystal graphs with their refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from models.elements import ELEMENTS
from storage.store import ArtifactStore
from tasks.featurize import featurize_graphs, read_graphs
from tasks.ingest import ingest
from tasks.parameters import SourceParameters
from tasks.stage import reference


def test_fractions_stand_in_the_order_of_the_elements(stages: Any) -> None:
    table = stages.store.read_table(stages.features).to_pandas().set_index("formula")
    training = stages.store.read_table(stages.training).to_pandas().set_index("formula")
    assert list(table.index) == list(training.index)
    vector = table.loc["Al2O3", "element_fraction"]
    assert vector.shape == (86,)
    expected = np.zeros(86, dtype=np.float32)
    expected[ELEMENTS.index("Al")], expected[ELEMENTS.index("O")] = 0.4, 0.6
    np.testing.assert_array_equal(vector, expected)
    assert ELEMENTS[0] == "H"
    assert ELEMENTS.index("O") == 6  # H Li Be B C N O: no helium


def test_the_label_is_the_raw_energy(stages: Any) -> None:
    table = stages.store.read_table(stages.features)
    training = stages.store.read_table(stages.training)
    assert table.column("formation_energy_per_atom").to_pylist() == training.column("formation_energy_raw").to_pylist()
    assert table.column("split").to_pylist() == training.column("split").to_pylist()


def test_every_structure_has_its_graph_and_its_row(stages: Any) -> None:
    graphs, rows = read_graphs(stages.store, stages.graphs)
    assert rows.tolist() == list(range(75))
    assert len(graphs) == 75
    assert graphs.n_atoms.tolist() == [1 + 1] * 75  # primitive cells of binary salts


def test_rows_without_a_usable_structure_are_counted_or_rejected(tmp_path: Path, tiny: Any) -> None:
    store = ArtifactStore(tmp_path / "store")
    frame = tiny.structures.head(4)[["material_id", "formula", "structure"]].copy()
    frame.loc[1, "structure"] = None
    # an element that the table of atom features does not have
    frame.loc[2, "structure"] = frame["structure"].iloc[2].replace('"Li"', '"Rf"')
    frame.to_parquet(tmp_path / "t.parquet")
    compounds = reference(ingest.fn(store.root, SourceParameters(source=f"file:{tmp_path / 't.parquet'}")))
    ref = reference(featurize_graphs.fn(store.root, compounds))
    assert store.manifest(ref).counts == {"rows": 2, "without_structure": 1, "rejected": 1}
    _, rows = read_graphs(store, ref)
    assert rows.tolist() == [0, 3]
    rejected = store.read_table(ref, "rejected/rejected").to_pylist()
    assert [(row["row"], row["material_id"]) for row in rejected] == [(2, frame["material_id"].iloc[2])]
    assert "element without atom features" in rejected[0]["reason"]


def test_a_table_without_structures_gives_an_empty_set(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path / "store")
    pd.DataFrame({"formula": ["NaCl", "Li2O"]}).to_parquet(tmp_path / "t.parquet")
    compounds = reference(ingest.fn(store.root, SourceParameters(source=f"file:{tmp_path / 't.parquet'}")))
    ref = reference(featurize_graphs.fn(store.root, compounds))
    assert store.manifest(ref).counts == {"rows": 0, "without_structure": 2}
    graphs, rows = read_graphs(store, ref)
    assert (len(graphs), len(rows)) == (0, 0)
