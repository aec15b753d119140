"""Examples as an artifact, and as a training reads them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pydantic import ValidationError

from models.cleaning import system_draw
from models.errors import InputError
from models.features import element_fractions
from storage.artifact import ArtifactRef, ArtifactRequest
from storage.store import ArtifactStore
from tasks.attributes import FeaturizeParameters, featurize_attributes
from tasks.calibrate import calibrate
from tasks.cross_validation import FoldRun, summarise_folds
from tasks.examples import ExampleParameters, Examples, choose_examples, load_examples
from tasks.fold import plan_folds, run_fold
from tasks.ingest import ingest
from tasks.loading import load_predictor
from tasks.parameters import SourceParameters
from tasks.stage import reference
from tasks.train import train_network
from tasks.train_parameters import ENERGY, TrainParameters
from tasks.validation_parameters import ValidationParameters

BOTH = ("band_gap", "volume_per_atom")


@pytest.fixture(scope="module")
def compounds(stages: Any, tmp_path_factory: pytest.TempPathFactory) -> ArtifactRef:
    """Compounds of which some lack a label, and two are the same composition."""
    file: Path = tmp_path_factory.mktemp("compounds") / "gaps.csv"
    pd.DataFrame(
        {
            "material_id": ["a", "b", "c", "d", "e", "f"],
            "formula": ["NaCl", "Na2Cl2", "Li2O", "MgO", "Al", "CaO"],
            "band_gap": [5.0, 6.0, None, 7.0, 0.0, None],
            "volume_per_atom": [22.5, 23.0, 8.5, None, 16.5, None],
        }
    ).to_csv(file, index=False)
    return stages.run(ingest, SourceParameters(source=f"file:{file}", database="tiny"))


def ids(stages: Any, ref: ArtifactRef, examples: Examples) -> list[str]:
    """Return the identifiers of the artifact's rows that the examples say they are."""
    names = stages.store.read_table(ref).column("material_id").to_pylist()
    return [names[row] for row in examples.row]


def test_labels_of_several_columns(stages: Any, compounds: ArtifactRef) -> None:
    ref = stages.run(choose_examples, compounds, ExampleParameters(targets=BOTH))
    assert stages.counts(ref).items() >= {"rows": 6, "rejected": 2, "merged": 1, "kept": 3}.items()
    examples = load_examples(ref, "element_fraction")
    assert (examples.targets, examples.units, examples.is_classes) == (BOTH, ("eV", "A^3/atom"), False)
    assert examples.formula == ["NaCl", "Li2O", "MgO"]
    assert ids(stages, ref, examples) == ["a", "c", "d"]
    assert examples.chemsys.tolist() == ["Cl-Na", "Li-O", "Mg-O"]
    np.testing.assert_array_equal(examples.y, [[5.0, 22.5], [np.nan, 8.5], [7.0, np.nan]])
    np.testing.assert_array_equal(examples.labels(np.array([1, 0])), [[np.nan, 8.5], [5.0, 22.5]])
    np.testing.assert_array_equal(examples.x, element_fractions(examples.formula))
    np.testing.assert_array_equal(examples.fractions, examples.x)
    assert len(examples) == 3
    assert load_examples(ref, "magpie").x.shape == (3, 145)


def test_limits_and_elements(stages: Any, compounds: ArtifactRef) -> None:
    every = stages.run(choose_examples, compounds, ExampleParameters(targets=("band_gap",), keep_elements=True))
    assert load_examples(every, "element_fraction").formula == ["NaCl", "MgO", "Al"]
    assert load_examples(every, "element_fraction").labels(np.arange(3)).tolist() == [5.0, 7.0, 0.0]
    limited = stages.run(choose_examples, compounds, ExampleParameters(targets=("band_gap",), lowest=6.5))
    assert load_examples(limited, "element_fraction").formula == ["MgO"]
    below = stages.run(choose_examples, compounds, ExampleParameters(targets=("band_gap",), highest=5.5))
    assert load_examples(below, "element_fraction").formula == ["NaCl"]
    assert len({ref.key for ref in (every, limited, below)}) == 3


def test_classes_are_whole_numbers(stages: Any, compounds: ArtifactRef) -> None:
    ref = stages.run(choose_examples, compounds, ExampleParameters(targets=("band_gap",), above=5.0))
    examples = load_examples(ref, "element_fraction")
    assert (examples.is_classes, examples.units) == (True, ("1",))
    assert examples.labels(np.arange(2)).tolist() == [0, 1]
    assert examples.labels(np.arange(2)).dtype == np.int64


def test_splits_are_by_system_and_by_seed(stages: Any) -> None:
    parameters = ExampleParameters(calibration_fraction=0.2, validation_fraction=0.3, seed=4)
    ref = stages.run(choose_examples, stages.energies, parameters)
    examples = load_examples(ref, "element_fraction")
    held = {name for name in set(examples.chemsys) if system_draw(str(name), 4, "validation") < 0.3}
    assert held
    assert {name for name, split in zip(examples.chemsys, examples.split, strict=True) if split == "validation"} == held
    assert set(examples.split) == {"train", "calibration", "validation"}
    assert stages.store.manifest(ref).energy_scheme == stages.store.manifest(stages.energies).energy_scheme


def test_features_are_examples_of_formation_energies(stages: Any) -> None:
    examples = load_examples(stages.features, "element_fraction")
    table = stages.store.read_table(stages.features).to_pandas()
    assert examples.targets == (ENERGY,)
    assert examples.units == ("eV/atom",)
    assert examples.labels(np.arange(len(examples))).tolist() == table[ENERGY].tolist()
    np.testing.assert_array_equal(examples.x, np.stack(table["element_fraction"].to_list()))
    assert examples.row.tolist() == list(range(len(table)))
    assert load_examples(stages.features, "element_fraction") is examples  # read once


def attributes_of(root: Path, material_ids: list[str]) -> ArtifactRef:
    """Return made-up structural attributes: of the k-th row k, k + 0.001, ..."""
    table = pa.table(
        {
            "material_id": material_ids,
            "formula": ["NaCl"] * len(material_ids),
            "chemsys": ["Cl-Na"] * len(material_ids),
            "split": pa.nulls(len(material_ids), pa.string()),
            ENERGY: pa.nulls(len(material_ids), pa.float64()),
            "attributes": pa.array(
                [(k + np.arange(126) / 1000).tolist() for k in range(len(material_ids))], pa.list_(pa.float32())
            ),
        }
    )
    request = ArtifactRequest("attributes", "tests", 1, {"features": "voronoi", "rows": material_ids})
    return ArtifactStore(root).get_or_build(request, lambda w: w.write_table("attributes", table, "attributes")).ref


def test_what_reads_formulas_is_measured_where_there_are_structures(stages: Any) -> None:
    """Else it could not be compared with what reads structures."""
    table = stages.store.read_table(stages.features).to_pandas()
    attributes = attributes_of(Path(stages.root), table["material_id"].tolist()[5:])
    folds = ValidationParameters(folds=2)
    runs = [
        FoldRun(
            name,
            0,
            plan.name,
            None,
            reference(run_fold.fn(stages.root, stages.features, plan, folds, training, attributes=attributes)),
        )
        for name in ("element_fraction", "voronoi")
        for training in [TrainParameters(network="ridge", representation=name, threads=1)]
        for plan in plan_folds.fn(stages.root, stages.features, folds)
    ]
    compared = stages.run(summarise_folds, stages.features, runs, folds)
    measured = [stages.store.read_table(run.ref, "fold").to_pandas()["row"] for run in runs]
    dealt = [row for row in range(5, len(table)) if table["split"][row] != "validation"]
    assert sorted(pd.concat(measured[:2])) == sorted(pd.concat(measured[2:])) == dealt
    assert len(stages.store.read_table(compared, "cross_validation")) == 4


def test_structures_are_found_by_their_name(stages: Any, compounds: ArtifactRef, tmp_path: Path) -> None:
    ref = stages.run(choose_examples, compounds, ExampleParameters(targets=BOTH))
    attributes = attributes_of(Path(stages.root), ["d", "b", "a"])
    examples = load_examples(ref, "voronoi", attributes)
    assert examples.row.tolist() == [0, 2]  # that of Li2O has no structure
    assert ids(stages, ref, examples) == ["a", "d"]
    np.testing.assert_allclose(examples.x[:, 0], [2.0, 0.0])
    np.testing.assert_allclose(examples.x[0], 2.0 + np.arange(126) / 1000, rtol=1e-6)
    np.testing.assert_array_equal(examples.y, [[5.0, 22.5], [7.0, np.nan]])
    assert load_examples(ref, "magpie+voronoi", attributes).x.shape == (2, 271)
    assert ids(stages, ref, load_examples(ref, "element_fraction", attributes)) == ["a", "d"]
    # rows of the table -> their places among those that are left
    assert examples.located(np.array([0, 1, 2])).tolist() == [0, 1]
    assert examples.located(np.array([2, 1])).tolist() == [1]
    assert replace(examples, row=np.array([3, 8])).located(np.array([8])).tolist() == [1]
    with pytest.raises(InputError, match="needs structural attributes; featurize voronoi"):
        load_examples(ref, "voronoi")
    with pytest.raises(InputError, match="no row of the table has structural attributes"):
        load_examples(ref, "voronoi", attributes_of(tmp_path, ["x"]))
    with pytest.raises(InputError, match="'compounds' artifact; give one of kind attributes"):
        load_examples(ref, "voronoi", compounds)
    of_composition = stages.run(featurize_attributes, compounds, FeaturizeParameters(features="magpie"))
    with pytest.raises(InputError, match=r"126 per row, not of shape \(3, 145\)"):
        load_examples(ref, "voronoi", of_composition)


def test_what_cannot_be_read_is_one_line(stages: Any, compounds: ArtifactRef) -> None:
    with pytest.raises(InputError, match="is a 'phases' artifact; give one of kind features or examples"):
        load_examples(stages.phases, "element_fraction")
    with pytest.raises(InputError, match="'bulk_modulus_vrh' holds no number"):
        choose_examples.fn(stages.root, compounds, ExampleParameters(targets=("bulk_modulus_vrh",)))
    with pytest.raises(InputError, match="one column, not of 2"):
        choose_examples.fn(stages.root, compounds, ExampleParameters(targets=BOTH, above=1.0))
    with pytest.raises(InputError, match="the table has no column 'gap'"):
        choose_examples.fn(stages.root, compounds, ExampleParameters(targets=("gap",)))
    with pytest.raises(ValidationError, match="'prototype' is no column of numbers; choose from"):
        ExampleParameters(targets=("prototype",))


def test_only_energies_are_held_against_a_hull(stages: Any, compounds: ArtifactRef) -> None:
    rows = stages.run(choose_examples, stages.energies, ExampleParameters(calibration_fraction=0.3))
    training = TrainParameters(architecture={"widths": [16, 8, 1]}, preset="small", epochs=2, threads=1)
    network = stages.run(train_network, rows, training)
    ref = stages.run(calibrate, network, stages.phases)
    held = (load_examples(rows, "element_fraction").split == "calibration").sum()
    assert stages.counts(ref)["rows"] == held > 0
    gaps = TrainParameters(target="band_gap", architecture={"widths": [16, 8, 1]}, preset="small", epochs=1, threads=1)
    other = ExampleParameters(targets=("band_gap",), calibration_fraction=0.0, validation_fraction=0.0)
    of_gaps = stages.run(train_network, stages.run(choose_examples, compounds, other), gaps)
    with pytest.raises(InputError, match="no hull can be held against"):
        load_predictor(of_gaps, stages.phases)
