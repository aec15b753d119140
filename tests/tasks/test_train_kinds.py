"""Trainings of every kind: networks, representations, several targets, classes, uncertainties, transfer."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

from models.applicability import ExpectedError
from models.errors import InputError
from models.formula import parse_many
from models.uncertainty import expected_calibration_error, tempered
from storage.artifact import ArtifactRef
from storage.model_files import read_model
from storage.store import ArtifactStore
from tasks.examples import ExampleParameters, choose_examples, load_examples
from tasks.fold import RESULT, plan_folds, run_fold
from tasks.ingest import ingest
from tasks.loading import load_ensemble, load_predictor
from tasks.parameters import SourceParameters
from tasks.predicted_columns import predicted_columns
from tasks.source_model import load_source
from tasks.train import train_network
from tasks.train_parameters import ENERGY, TrainParameters, TransferParameters
from tasks.validation_parameters import ValidationParameters

SMALL: dict[str, dict[str, Any]] = {
    "elemnet": {"widths": [16, 8, 1]},
    "attention": {"width": 16, "n_layers": 1, "n_heads": 2, "head_width": 16},
    "residual": {"widths": [16, 16, 8]},
    "multi_property": {"trunk": {"name": "elemnet", "parameters": {"widths": [16, 8]}}, "head_widths": [8]},
}


def training(network: str = "elemnet", **changes: Any) -> TrainParameters:
    settings = {"network": network, "architecture": SMALL[network], "preset": "small", "epochs": 2, "threads": 1}
    return TrainParameters(**(settings | {"batch_size": 32} | changes))


@pytest.fixture(scope="module")
def examples(stages: Any) -> ArtifactRef:
    """Formation energies with enough calibration rows for an uncertainty."""
    return stages.run(
        choose_examples, stages.energies, ExampleParameters(calibration_fraction=0.4, validation_fraction=0.2, seed=1)
    )


@pytest.fixture(scope="module")
def classes(stages: Any) -> ArtifactRef:
    return stages.run(choose_examples, stages.energies, ExampleParameters(above=-1.0, calibration_fraction=0.2))


@pytest.fixture(scope="module")
def source(stages: Any, examples: ArtifactRef) -> ArtifactRef:
    return stages.run(train_network, examples, training(members=2))


def files(ref: ArtifactRef) -> set[str]:
    return {entry.path for entry in ArtifactStore.from_ref(ref).manifest(ref).payload}


def read(stages: Any, ref: ArtifactRef, name: str) -> Any:
    return json.loads(stages.store.read_bytes(ref, name))


def assert_metrics_are_those_of_the_model(ref: ArtifactRef, rows: ArtifactRef) -> None:
    """What the card says of its rows is what the model in the store says of them."""
    card, _ = read_model(ref)
    examples = load_examples(rows, card.features)
    said = load_ensemble(ref).predict(examples.x)
    for split in ("train", "calibration", "validation"):
        part = examples.split == split
        assert card.split[split] == part.sum() > 0
        error = np.abs(said.mean - examples.y)[part]
        for k, name in enumerate(examples.targets):
            metrics = card.metrics[split] if len(examples.targets) == 1 else card.metrics[split][name]
            assert metrics["n"] == np.isfinite(error[:, k]).sum()
            assert metrics["mae"] == pytest.approx(np.nanmean(error[:, k]), rel=1e-6)


@pytest.mark.parametrize(
    ("network", "representation", "columns"), [("residual", "magpie", 145), ("attention", "element_fraction", 86)]
)
def test_other_networks(stages: Any, examples: ArtifactRef, network: str, representation: str, columns: int) -> None:
    ref = stages.run(train_network, examples, training(network, representation=representation))
    card, (member,) = read_model(ref)
    assert card.architecture.model_dump() == {"name": network, "parameters": {"n_features": columns} | SMALL[network]}
    assert card.features == representation
    assert len(stages.store.read_table(ref, "learning_curve")) == 2
    assert all(np.isfinite(array).all() for array in member.values())
    assert_metrics_are_those_of_the_model(ref, examples)
    assert {row["element"] for row in read(stages, ref, "errors_by_element.json")} <= set(stages.tiny.CHARGE)


def test_several_targets_some_of_them_missing(stages: Any, tmp_path: Any) -> None:
    table = stages.tiny.energies.copy()
    table["volume_per_atom"] = 10.0 - table[ENERGY]
    table.loc[::3, "volume_per_atom"] = np.nan
    table.loc[1::3, ENERGY] = np.where(np.arange(len(table.loc[1::3])) % 2, np.nan, table.loc[1::3, ENERGY])
    table.to_parquet(tmp_path / "both.parquet")
    compounds = stages.run(ingest, SourceParameters(source=f"file:{tmp_path / 'both.parquet'}", database="tiny"))
    targets = (ENERGY, "volume_per_atom")
    rows = stages.run(choose_examples, compounds, ExampleParameters(targets=targets, calibration_fraction=0.2))
    ref = stages.run(
        train_network,
        rows,
        training("multi_property", target=",".join(targets), epochs=30, settings={"learning_rate": 5e-3}),
    )
    card, _ = read_model(ref)
    assert [(target.name, target.unit) for target in card.targets] == [(ENERGY, "eV/atom"), (targets[1], "A^3/atom")]
    examples = load_examples(rows, "element_fraction")
    train = examples.y[examples.split == "train"]
    assert np.isnan(train).any(axis=0).all()
    assert card.normalisation.mean == pytest.approx(np.nanmean(train, axis=0).tolist())
    assert card.architecture.parameters["n_properties"] == 2
    assert_metrics_are_those_of_the_model(ref, rows)
    # both are learnt, in the unit of each, and not one for the other
    said = load_ensemble(ref).predict(examples.x).mean
    assert np.nanmean(np.abs(said - examples.y), axis=0).max() < 0.6 * np.nanstd(train, axis=0).min()
    assert np.corrcoef(said.T)[0, 1] < -0.5
    assert "errors_by_element.json" not in files(ref)
    with pytest.raises(InputError, match=f"labels of {ENERGY}, volume_per_atom, not of {ENERGY}; name them"):
        train_network.fn(stages.root, rows, training("multi_property"))


def test_logarithms_are_learnt_and_numbers_predicted(stages: Any) -> None:
    columns = ExampleParameters(targets=("bulk_modulus_vrh",), log10=True, calibration_fraction=0.2)
    rows = stages.run(choose_examples, stages.structures, columns)
    table = stages.tiny.structures
    truth = table["bulk_modulus_vrh"].groupby(parse_many(table["formula"].tolist()).reduced).first()
    examples = load_examples(rows, "element_fraction")
    np.testing.assert_allclose(10 ** examples.y[:, 0], truth[examples.formula], rtol=1e-9)
    ref = stages.run(
        train_network, rows, training(target="bulk_modulus_vrh", epochs=60, settings={"learning_rate": 5e-3})
    )
    card, _ = read_model(ref)
    assert [(target.name, target.unit, target.transform) for target in card.targets] == [
        ("bulk_modulus_vrh", "GPa", "log10")
    ]
    said = predicted_columns(ref, parse_many(examples.formula))
    logs = load_ensemble(ref).predict(examples.x).mean[:, 0]
    np.testing.assert_allclose(said["prediction"], 10**logs, rtol=1e-6)
    assert "prediction_log10_std" in said
    assert "prediction_std" not in said
    assert np.abs(np.log10(said["prediction"]) - examples.y[:, 0]).mean() < np.std(examples.y[:, 0])
    plain = stages.run(choose_examples, stages.structures, columns.model_copy(update={"log10": False}))
    assert "log10" not in stages.store.manifest(plain).parameters  # as artifacts of before have it
    once = ValidationParameters(scheme="split")
    (plan,) = plan_folds.fn(stages.root, plain, once)
    with pytest.raises(InputError, match="predicts 1 logarithm, the rows have one number"):
        run_fold.fn(stages.root, plain, plan, once, training(target="bulk_modulus_vrh"), ref, True)


def test_a_predicted_uncertainty_is_calibrated(stages: Any, examples: ArtifactRef) -> None:
    ref = stages.run(train_network, examples, training(settings={"loss": "robust_l1"}, epochs=3))
    card, _ = read_model(ref)
    assert card.architecture.parameters["widths"] == [16, 8, 2]
    assert_metrics_are_those_of_the_model(ref, examples)
    report = read(stages, ref, "uncertainty.json")
    assert report["n"] == card.split["validation"]
    assert report["mae"] == pytest.approx(card.metrics["validation"]["mae"])
    assert card.calibration is not None
    assert card.calibration["uncertainty"]["scores"]
    assert {"uncertainty.json", "uncertainty.svg", "applicability.json"} <= files(ref)
    expected = read(stages, ref, "applicability.json")
    assert expected["n"] == report["n"]
    # weighted by their rows, the bins' errors are the error of the rows
    assert np.average(
        [one["mae"] for one in expected["bins"]], weights=[one["n"] for one in expected["bins"]]
    ) == pytest.approx(report["mae"])
    formulas = parse_many(load_examples(examples, "element_fraction").formula)
    columns = predicted_columns(ref, formulas)
    assert columns["expected_error"].shape == (len(formulas),)
    assert (columns["expected_error"] > 0).all()
    fitted = ExpectedError.from_dict(card.calibration["expected_error"])
    assert fitted.n == card.split["calibration"]
    rows = load_examples(examples, "element_fraction")
    std = load_ensemble(ref).predict(rows.x).std
    assert std is not None
    assert std.shape == (len(rows), 1)
    assert len(np.unique(std)) > 10


def test_dropout_that_stays_on_has_a_spread(stages: Any, examples: ArtifactRef) -> None:
    dropping = SMALL["elemnet"] | {"dropout": [0.9], "dropout_after": [1]}
    ref = stages.run(train_network, examples, training(architecture=dropping, passes=4))
    report = read(stages, ref, "uncertainty.json")
    assert report["spearman"] is not None  # a spread that differs by row
    # what is predicted later is what was measured and calibrated
    card, _ = read_model(ref)
    rows = load_examples(examples, "element_fraction")
    held = np.flatnonzero(rows.split == "validation")
    columns = predicted_columns(ref, parse_many(rows.formula).select(held))
    error = columns["prediction"] - rows.y[held, 0]
    assert np.abs(error).mean() == pytest.approx(card.metrics["validation"]["mae"], rel=1e-5)
    inside = (columns["prediction_low"] <= rows.y[held, 0]) & (rows.y[held, 0] <= columns["prediction_high"])
    assert inside.mean() == pytest.approx(report["coverage"]["0.95"]["share"])
    with pytest.raises(InputError, match="averaging over dropout"):
        load_predictor(ref)
    with pytest.raises(InputError, match="no dropout to average over"):
        train_network.fn(stages.root, examples, training(passes=4))


def test_classes(stages: Any, classes: ArtifactRef) -> None:
    learning = training(settings={"loss": "cross_entropy", "balanced_classes": True, "learning_rate": 5e-3}, epochs=20)
    ref = stages.run(train_network, classes, learning)
    card, _ = read_model(ref)
    assert (card.targets[0].name, card.targets[0].unit, card.targets[0].transform) == (ENERGY, "1", "class")
    rows = load_examples(classes, "element_fraction")
    probability = load_ensemble(ref).predict(rows.x).mean[:, 1]
    held = rows.split == "validation"
    metrics = card.metrics["validation"]
    assert metrics["accuracy"] == pytest.approx(((probability >= 0.5) == rows.y[:, 0])[held].mean())
    assert card.metrics["train"]["auc"] > 0.9
    curve: pd.DataFrame = stages.store.read_table(ref, "learning_curve").to_pandas()
    assert curve["train_mae"].isna().all()
    assert curve["validation_error_rate"].between(0, 1).all()
    assert not files(ref) & {"uncertainty.json", "errors_by_element.json"}
    for wrong, table in (("mae", classes), ("cross_entropy", stages.features)):
        with pytest.raises(InputError, match="the labels are"):
            train_network.fn(stages.root, table, training(settings={"loss": wrong}))
    with pytest.raises(InputError, match="'ridge' is a baseline"):
        train_network.fn(stages.root, classes, TrainParameters(network="ridge"))


def test_probabilities_are_calibrated_on_held_back_systems(stages: Any) -> None:
    share = ExampleParameters(above=-1.0, calibration_fraction=0.45, validation_fraction=0.2)
    rows = stages.run(choose_examples, stages.energies, share)
    ref = stages.run(train_network, rows, training(settings={"loss": "cross_entropy"}, epochs=60))
    card, _ = read_model(ref)
    assert card.calibration is not None
    temperature = card.calibration["temperature"]
    examples = load_examples(rows, "element_fraction")
    said = load_ensemble(ref).predict(examples.x)
    held = examples.split == "calibration"
    labels = examples.y[held, 0].astype(int)

    def loss(t: float) -> float:
        stated = tempered(said.log_probabilities[held], t)
        return float(-np.log(stated[np.arange(len(labels)), labels]).mean())

    assert loss(temperature) <= min(loss(temperature * 1.05), loss(temperature / 1.05), loss(1.0))
    report = read(stages, ref, "probabilities.json")
    measured = examples.split == "validation"
    after = tempered(said.log_probabilities[measured], temperature)[:, 1]
    errors = report["expected_calibration_error"]
    assert errors["calibrated"] == pytest.approx(expected_calibration_error(after, examples.y[measured, 0]))
    parsed = parse_many([examples.formula[row] for row in np.flatnonzero(measured)])
    assert predicted_columns(ref, parsed)["probability"] == pytest.approx(after)


def test_a_model_of_classes_is_measured_as_it_is(stages: Any, classes: ArtifactRef, source: ArtifactRef) -> None:
    learning = training(settings={"loss": "cross_entropy"}, epochs=3)
    model = stages.run(train_network, classes, learning)
    once = ValidationParameters(scheme="split")
    (plan,) = plan_folds.fn(stages.root, classes, once)
    ref = stages.run(run_fold, classes, plan, once, learning, model, True)
    assert read(stages, ref, RESULT)["metrics"] == pytest.approx(read_model(model)[0].metrics["validation"])
    with pytest.raises(InputError, match="predicts 1 number, the rows have classes"):
        run_fold.fn(stages.root, classes, plan, once, learning, source, True)
    (plan,) = plan_folds.fn(stages.root, stages.features, once)
    with pytest.raises(InputError, match="predicts classes, the rows have one number"):
        run_fold.fn(stages.root, stages.features, plan, once, training(), model, True)
    with pytest.raises(InputError, match="reads element_fraction, the fold magpie"):
        run_fold.fn(stages.root, classes, plan, once, training(representation="magpie"), model, True)


# --- transfer


def test_a_model_goes_on_with_frozen_layers(stages: Any, source: ArtifactRef, examples: ArtifactRef) -> None:
    frozen = training(transfer=TransferParameters(frozen=1), seed=5, members=2)
    ref = stages.run(train_network, stages.features, frozen, source)
    before, after = read_model(source)[1], read_model(ref)[1]
    for old, new in zip(before, after, strict=True):  # each member goes on from its own
        assert np.array_equal(new["layers.0.weight"], old["layers.0.weight"])
        assert np.array_equal(new["layers.0.bias"], old["layers.0.bias"])
        assert not np.array_equal(new["layers.1.weight"], old["layers.1.weight"])
    assert not np.array_equal(before[0]["layers.0.weight"], before[1]["layers.0.weight"])
    # the scale of the source: at the first step its outputs mean the same energies
    assert read_model(ref)[0].normalisation == read_model(source)[0].normalisation
    report = read(stages, ref, "transfer.json")
    assert report["init"] == source.key
    assert sorted(report["shared"]) == sorted(stages.tiny.CHARGE)
    assert (report["only_source"], report["only_target"], report["target_rows_with_new"]) == ([], [], 0)
    assert "transfer.json" not in files(source)
    assert stages.run(train_network, stages.features, frozen).key != ref.key


def test_another_target_has_a_scale_of_its_own(stages: Any, source: ArtifactRef) -> None:
    """A volume is no energy: the source's mean and spread would leave it far from what a network starts with."""
    rows = stages.run(
        choose_examples, stages.structures, ExampleParameters(targets=("volume_per_atom",), calibration_fraction=0.1)
    )
    ref = stages.run(train_network, rows, training(target="volume_per_atom"), source)
    examples = load_examples(rows, "element_fraction")
    labels = examples.y[examples.split == "train", 0]
    card, _ = read_model(ref)
    assert card.normalisation.mean == pytest.approx([labels.mean()])
    assert card.normalisation.std == pytest.approx([labels.std()])
    report = read(stages, ref, "transfer.json")
    assert set(report["only_target"]) <= {"K", "Br"}
    assert report["only_target"]
    assert report["target_rows_with_new"] > 0


def test_another_loss_gets_an_output_of_its_own(stages: Any, source: ArtifactRef, examples: ArtifactRef) -> None:
    robust = training(settings={"loss": "robust_l2", "learning_rate": 1e-12}, epochs=1)
    ref = stages.run(train_network, examples, robust, source)
    old, new = read_model(source)[1][0], read_model(ref)[1][0]
    assert new["layers.2.weight"].shape == (2, 8)
    np.testing.assert_allclose(new["layers.1.weight"], old["layers.1.weight"], atol=1e-6)
    back = stages.run(train_network, examples, training(epochs=1, architecture={"widths": [16, 8, 2]}), ref)
    assert read_model(back)[0].architecture.parameters["widths"] == [16, 8, 1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"representation": "magpie"}, "reads element_fraction, this training magpie"),
        ({"network": "attention", "architecture": SMALL["attention"]}, "is an elemnet; train with --model elemnet"),
        ({"members": 3}, "has 2 members; train at most as many"),
        ({"architecture": {"widths": [8, 8, 1]}}, r"another architecture \(layers\.0\.bias does not fit\)"),
        ({"transfer": TransferParameters(frozen=3)}, "3 groups of layers and 3 are frozen"),
    ],
)
def test_a_source_that_does_not_fit(
    stages: Any, source: ArtifactRef, examples: ArtifactRef, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        train_network.fn(stages.root, examples, training(**changes), source)


def test_one_member_starts_all(stages: Any, examples: ArtifactRef) -> None:
    one = stages.run(train_network, examples, training())
    assert len(load_source(one, training(members=5)).members) == 1
    many = stages.run(train_network, examples, training(members=2, epochs=1), one)
    first, second = read_model(many)[1]
    assert not np.array_equal(first["layers.0.weight"], second["layers.0.weight"])  # rows in another order
