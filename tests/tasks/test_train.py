"""Train and predict: the model artifact, its key, its checkpoints, what is measured on which rows."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from models.errors import InputError
from models.training_state import TrainingState
from storage.model_files import read_model
from tasks.calibrate import calibrate
from tasks.checkpoint import Checkpoint
from tasks.clean import clean_training
from tasks.featurize import featurize_fractions
from tasks.learning import described_settings
from tasks.loading import load_predictor
from tasks.parameters import CleanParameters
from tasks.preset import FEW_ROWS_STEPS, n_training_rows, resolved
from tasks.stage import reference
from tasks.teach import teach
from tasks.teach_parameters import TaughtParameters
from tasks.train import train_network, training_settings
from tasks.train_parameters import TrainParameters
from training_watch import Killed, watch_training


def test_the_card_says_what_was_learned_from_what(stages: Any) -> None:
    card, members = read_model(stages.network)
    counts = stages.counts(stages.training)
    assert card.split == {name: counts[name] for name in ("train", "calibration", "validation")}
    assert card.training_data == stages.features.digest
    assert len(members) == card.n_members == 1
    rows = stages.store.read_table(stages.training).to_pandas().query("split == 'train'")
    assert card.domain["training_rows"]["Li"] == sum("Li" in system.split("-") for system in rows["chemsys"])
    assert card.domain["training_rows"]["Xe"] == 0
    assert card.energy_scheme == stages.store.manifest(stages.energies).energy_scheme
    assert card.functional == "pbe"


def test_metrics_are_those_of_the_predictions(stages: Any) -> None:
    table = stages.store.read_table(stages.predictions).to_pandas()
    assert len(table) == stages.counts(stages.training)["kept"]
    card, _ = read_model(stages.network)
    for split, rows in table.groupby("split"):
        error = (rows["prediction"] - rows["formation_energy_per_atom"]).abs().mean()
        assert card.metrics[split]["mae"] == pytest.approx(error, rel=1e-5)
    assert table["prediction_std"].isna().all()  # one network


def test_the_learning_curve_has_every_epoch(stages: Any) -> None:
    curve = stages.store.read_table(stages.network, "learning_curve").to_pandas()
    assert curve["epoch"].tolist() == [1, 2, 3, 4, 5]
    assert curve["train_mae"].iloc[-1] < curve["train_mae"].iloc[0]
    assert curve["validation_mae"].notna().all()


def test_errors_are_listed_by_element(stages: Any) -> None:
    errors = json.loads(stages.store.read_bytes(stages.network, "errors_by_element.json"))
    assert {row["element"] for row in errors} <= set(stages.tiny.CHARGE)


@pytest.mark.parametrize(
    "change", [{"epochs": 1}, {"batch_size": 64}, {"seed": 1}, {"members": 2}, {"threads": 1}, {"restarts": 1}]
)
def test_every_parameter_is_part_of_the_key(stages: Any, change: dict[str, Any]) -> None:
    from tasks import train

    keys = []

    def keep(root: str, request: Any, write: Any) -> None:
        keys.append(request.key)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "build", keep)
        train_network.fn(stages.root, stages.features, stages.training_parameters)
        train_network.fn(stages.root, stages.features, stages.training_parameters.model_copy(update=change))
    assert keys[0] == stages.network.key != keys[1]


def test_a_preset_is_the_same_as_its_values() -> None:
    small = training_settings(TrainParameters(preset="small", epochs=3))
    standard = training_settings(TrainParameters(preset="standard", epochs=3, batch_size=small.batch_size))
    assert small == replace(standard, weight_decay=small.weight_decay, learning_rate=small.learning_rate)


def test_the_number_of_rows_chooses_a_preset_that_was_left_open(stages: Any) -> None:
    left_open = TrainParameters(threads=1)
    assert resolved(left_open, lambda: 30_000) == left_open.model_copy(update={"preset": "standard"})
    few = resolved(left_open, lambda: 29_999)
    assert (few.preset, few.settings) == ("small", {"min_steps": FEW_ROWS_STEPS})
    assert resolved(left_open.model_copy(update={"epochs": 7}), lambda: 500).settings == {}
    stated_steps = left_open.model_copy(update={"settings": {"min_steps": 9}})
    assert resolved(stated_steps, lambda: 500).settings == {"min_steps": 9}
    for stated in ("small", "standard"):
        one = TrainParameters(preset=stated)
        assert resolved(one, lambda: pytest.fail("rows were counted for nothing")) == one
    forest = TrainParameters(network="random_forest")
    assert resolved(forest, lambda: 500) == resolved(forest, lambda: 500_000) == forest  # which has no trainer
    assert described_settings(forest)["settings"] == {"seed": 0, "threads": 2}
    with pytest.raises(InputError, match="preset 'auto'"):
        training_settings(left_open)  # nobody said how many rows
    split = stages.store.read_table(stages.features, columns=["split"]).column("split").to_pylist()
    assert n_training_rows(stages.features) == split.count("train")
    lessons = stages.run(teach, stages.features, stages.network, TaughtParameters(compositions=70))
    assert n_training_rows(stages.features, taught=lessons) == split.count("train") + 70
    brief = TrainParameters(epochs=1, threads=1, architecture={"widths": [16, 1]})
    stated = brief.model_copy(update={"preset": "small"})
    assert stages.run(train_network, stages.features, brief) == stages.run(train_network, stages.features, stated)


@pytest.mark.parametrize(("minutes", "saved"), [(0.0, [1, 2, 3, 4]), (60.0, [4]), (None, [4])])
def test_checkpoints_are_as_far_apart_as_wished(
    stages: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, minutes: float | None, saved: list[int]
) -> None:
    brief = TrainParameters(preset="small", epochs=4, threads=1, architecture={"widths": [8, 1]})
    epochs: list[int] = []
    monkeypatch.setattr(Checkpoint, "save", lambda self, state: epochs.append(state.meta["epoch"]))
    parameters = brief.model_copy(update={"checkpoint_minutes": minutes})
    ref = reference(train_network.fn(str(tmp_path / "store"), stages.features, parameters))
    assert epochs == saved
    assert ref.digest == stages.run(train_network, stages.features, brief).digest


def test_a_killed_training_goes_on_and_ends_with_the_same_weights(
    stages: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two members, killed after the first epoch of the second one, in a store of its own."""
    parameters = TrainParameters(preset="small", epochs=2, members=2, threads=1)
    whole = stages.run(train_network, stages.features, parameters)
    root = str(tmp_path / "store")
    epochs = watch_training(monkeypatch, ("member-001", 1))
    with pytest.raises(Killed):
        train_network.fn(root, stages.features, parameters)
    assert epochs == [("member-000", 1), ("member-000", 2), ("member-001", 1)]
    epochs = watch_training(monkeypatch)
    resumed = train_network.fn(root, stages.features, parameters)
    assert epochs == [("member-001", 2)]  # nothing was trained twice
    assert (resumed.key, resumed.digest) == (whole.key, whole.digest)
    assert resumed.uri != whole.uri
    assert list((tmp_path / "store" / ".scratch").iterdir()) == []


def test_a_checkpoint_that_cannot_be_read_is_left_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    checkpoint = Checkpoint(tmp_path, "member-000")
    assert checkpoint.load() is None
    state = TrainingState({"a": np.arange(6.0).reshape(2, 3), "n": np.array(7)}, {"epoch": 3})
    checkpoint.save(state)
    loaded = checkpoint.load()
    assert loaded is not None
    assert loaded.meta == {"epoch": 3}
    np.testing.assert_array_equal(loaded.tensors["a"], state.tensors["a"])
    assert loaded.tensors["n"].shape == ()
    data = checkpoint.path.read_bytes()
    checkpoint.path.write_bytes(data[: len(data) - 8])
    assert checkpoint.load() is None
    assert "cannot be read" in caplog.text


def test_validation_rows_have_no_say_in_the_weights(stages: Any, tmp_path: Path) -> None:
    """Other labels on the validation rows: another artifact, the same network."""
    from storage.artifact import ArtifactRequest
    from storage.store import ArtifactStore

    table = stages.store.read_table(stages.features)
    frame = table.to_pandas()
    energy = frame["formation_energy_per_atom"].where(frame["split"] != "validation", 9.0)
    changed = table.set_column(4, "formation_energy_per_atom", [energy.to_numpy()])
    store = ArtifactStore(tmp_path / "store")
    parameters = TrainParameters(preset="small", epochs=1, threads=1)
    request = ArtifactRequest("features", "tests", 1)
    ref = store.get_or_build(request, lambda writer: writer.write_table("features", changed, "features")).ref
    first = read_model(stages.run(train_network, stages.features, parameters))
    second = read_model(train_network.fn(store.root, ref, parameters))
    assert first[0].metrics["validation"] != second[0].metrics["validation"]
    assert all(np.array_equal(first[1][0][name], second[1][0][name]) for name in first[1][0])


def test_no_training_rows_is_one_line(stages: Any, tmp_path: Path) -> None:
    from storage.artifact import ArtifactRequest
    from storage.store import ArtifactStore

    table = stages.store.read_table(stages.features)
    table = table.filter(np.array(table.column("split").to_pylist()) != "train")
    store = ArtifactStore(tmp_path / "store")
    request = ArtifactRequest("features", "tests", 1)
    ref = store.get_or_build(request, lambda writer: writer.write_table("features", table, "features")).ref
    with pytest.raises(InputError, match="no row has the split 'train'"):
        train_network.fn(store.root, ref, TrainParameters(preset="small", epochs=1))


def test_predictions_are_on_the_scale_of_the_labels(stages: Any) -> None:
    features = stages.store.read_table(stages.features)
    fractions = np.stack(features.column("element_fraction").to_numpy(zero_copy_only=False))
    expected, std = load_predictor(stages.network).predict(fractions)
    assert std is None
    written = stages.store.read_table(stages.predictions).column("prediction").to_numpy()
    np.testing.assert_array_equal(written, expected.astype(np.float64))


def test_a_moduli_model_does_not_predict_energies(stages: Any) -> None:
    with pytest.raises(InputError, match="give a composition network"):
        load_predictor(stages.moduli_network)


def test_calibration_uses_the_calibration_rows(stages: Any) -> None:
    result = json.loads(stages.store.read_bytes(stages.calibration, "calibration.json"))
    table = stages.store.read_table(stages.predictions).to_pandas().query("split == 'calibration'")
    error = table["prediction"] - table["formation_energy_per_atom"]
    assert result["residuals"]["n"] == len(table) == stages.counts(stages.calibration)["rows"]
    assert result["residuals"]["mae"] == pytest.approx(error.abs().mean(), rel=1e-5)
    assert result["residuals"]["bias"] == pytest.approx(error.mean(), rel=1e-5)
    assert result["probability"]["n"] == len(table)


def test_no_calibration_rows_means_no_probability(stages: Any) -> None:
    cleaning = CleanParameters(calibration_fraction=1e-9)
    training = stages.run(clean_training, stages.energies, stages.references, cleaning)
    assert stages.counts(training)["calibration"] == 0
    features = stages.run(featurize_fractions, training)
    network = stages.run(train_network, features, TrainParameters(preset="small", epochs=1, threads=1))
    curve: pd.DataFrame = stages.store.read_table(network, "learning_curve").to_pandas()
    assert curve["validation_mae"].isna().all()
    result = json.loads(stages.store.read_bytes(stages.run(calibrate, network, stages.phases), "calibration.json"))
    assert result["probability"]["method"] == "none"
    assert "calibration_fraction" in result["probability"]["reason"]
