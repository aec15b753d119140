"""Predictions of a model that reads structures, for a table that brings them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from models.errors import InputError
from storage.artifact import ArtifactRef
from storage.store import ArtifactStore
from tasks.attributes import FeaturizeParameters, featurize_attributes
from tasks.examples import ExampleParameters, choose_examples, load_examples
from tasks.ingest import ingest
from tasks.loading import load_ensemble
from tasks.parameters import SourceParameters
from tasks.stage import reference
from tasks.tables import predict_table
from tasks.train import train_network
from tasks.train_parameters import TrainParameters

BULK = "bulk_modulus_vrh"


@pytest.fixture(scope="module")
def rows(tiny: Any) -> pd.DataFrame:
    # one structure of each compound: a composition is one row
    chosen = tiny.structures[tiny.structures["material_id"].str.startswith("rocksalt")].head(8)
    frame: pd.DataFrame = chosen[["material_id", "formula", "structure", BULK]].reset_index(drop=True)
    return frame


@pytest.fixture(scope="module")
def model(rows: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> tuple[ArtifactRef, dict[str, float]]:
    folder = tmp_path_factory.mktemp("structural")
    rows.to_parquet(folder / "rows.parquet")
    root = str(folder / "store")
    source = SourceParameters(source=f"file:{folder / 'rows.parquet'}", database="tiny")
    compounds = reference(ingest.fn(root, source))
    attributes = reference(featurize_attributes.fn(root, compounds, FeaturizeParameters(features="voronoi")))
    chosen = ExampleParameters(targets=(BULK,), calibration_fraction=0.0, validation_fraction=0.0)
    examples = reference(choose_examples.fn(root, compounds, chosen))
    training = TrainParameters(
        network="elemnet", architecture={"widths": [8, 1]}, representation="magpie+voronoi", target=BULK, epochs=2,
        preset="small", threads=1,
    )  # fmt: skip
    ref = reference(train_network.fn(root, examples, training, attributes=attributes))
    read = load_examples(examples, "magpie+voronoi", attributes)
    names = ArtifactStore(root).read_table(examples, columns=["material_id"]).column("material_id").to_pylist()
    said = load_ensemble(ref).predict(read.x).mean[:, 0]
    return ref, dict(zip([names[row] for row in read.row], said.tolist(), strict=True))


def test_what_the_table_brings_is_what_was_learnt(
    rows: pd.DataFrame, model: tuple[ArtifactRef, dict[str, float]], tmp_path: Path
) -> None:
    ref, expected = model
    table = rows.drop(columns=BULK).rename(columns={"structure": "cif"})
    table.loc[len(table)] = ["none", "NaCl", None]
    table.loc[len(table)] = ["broken", "NaCl", "data_\nnothing"]
    table.to_parquet(tmp_path / "in.parquet")
    root = ArtifactStore.from_ref(ref).root
    said = predict_table(root, ref.key, str(tmp_path / "in.parquet"), False).table.to_pandas()
    found = dict(zip(said["material_id"], said["prediction"], strict=True))
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-5)
    assert len(expected) == len(rows)
    assert said["applicability"].notna().tolist() == [True] * len(rows) + [False, False]
    assert said["prediction"].isna().tolist() == [False] * len(rows) + [True, True]
    assert said["reason"].tolist()[-2] == "there is no structure"
    assert "structure" in said["reason"].tolist()[-1]


def test_a_table_without_structures_is_refused(model: tuple[ArtifactRef, dict[str, float]], tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("formula\nNaCl\n")
    ref, _ = model
    with pytest.raises(InputError, match="give a column structure or cif or cif_text"):
        predict_table(ArtifactStore.from_ref(ref).root, ref.key, str(tmp_path / "in.csv"), False)
