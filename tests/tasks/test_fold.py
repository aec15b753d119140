"""Folds and their comparison: what is trained on what, what is measured, and that order and place do not matter."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from models.errors import InputError
from storage.artifact import ArtifactRef
from tasks.cross_validation import SUMMARY, FoldRun, summarise_folds
from tasks.examples import ExampleParameters, choose_examples, load_examples
from tasks.fold import RESULT, FoldPlan, folds_of, plan_folds, run_fold
from tasks.train_parameters import TrainParameters
from tasks.validation_parameters import EntryParameters, ValidationParameters

TINY = TrainParameters(
    network="elemnet",
    architecture={"widths": [32, 16, 1]},
    preset="small",
    epochs=3,
    threads=1,
    settings={"warmup": 0.0},
)
TWO = ValidationParameters(folds=2)


def fold(stages: Any, training: TrainParameters, number: int = 0, validation: Any = TWO, **options: Any) -> ArtifactRef:
    plan = plan_folds.fn(stages.root, stages.features, validation)[number]
    return stages.run(run_fold, stages.features, plan, validation, training, *options.values())


def result(stages: Any, ref: ArtifactRef) -> dict[str, Any]:
    return json.loads(stages.store.read_bytes(ref, RESULT))


def test_folds_are_dealt_from_the_training_rows_alone(stages: Any) -> None:
    split = np.array(stages.store.read_table(stages.features).column("split").to_pylist())
    folds = folds_of(stages.features, TWO)
    tested = np.concatenate([one.test for one in folds])
    assert sorted(tested) == np.flatnonzero(split != "validation").tolist()
    every = folds_of(stages.features, ValidationParameters(folds=2, include_validation=True))
    assert len(np.concatenate([one.test for one in every])) == len(split)
    (once,) = folds_of(stages.features, ValidationParameters(scheme="split"))
    assert set(split[once.test]) == {"validation"}
    assert set(split[once.train]) == {"train"}


@pytest.mark.parametrize("network", ["elemnet", "random_forest", "linear"])
def test_a_fold_is_what_it_says(stages: Any, network: str) -> None:
    training = TINY if network == "elemnet" else TrainParameters(network=network, threads=1)
    ref = fold(stages, training)
    table = stages.store.read_table(ref, "fold").to_pandas()
    (first, _) = folds_of(stages.features, TWO)
    assert table["row"].tolist() == first.test.tolist()
    rows = stages.store.read_table(stages.features).to_pandas().iloc[first.test]
    assert table["formula"].tolist() == rows["formula"].tolist()
    assert table["truth"].tolist() == rows["formation_energy_per_atom"].tolist()
    said = result(stages, ref)
    assert said["metrics"]["mae"] == pytest.approx((table["prediction"] - table["truth"]).abs().mean())
    assert said["n_train"] + said["n_held"] == len(first.train)
    assert ("baseline" in said) == (network != "elemnet")


def test_sizes_are_nested_and_seeds_differ(stages: Any) -> None:
    sizes = ValidationParameters(folds=2, sizes=(20, 40))
    plans = plan_folds.fn(stages.root, stages.features, sizes)
    assert [(plan.name, plan.size) for plan in plans] == [
        ("fold-1", 20), ("fold-1", 40), ("fold-2", 20), ("fold-2", 40),
    ]  # fmt: skip
    small, large = (stages.run(run_fold, stages.features, plan, sizes, TINY) for plan in plans[:2])
    assert [result(stages, ref)["n_train"] for ref in (small, large)] == [20, 40]
    entry = EntryParameters(name="three", training=TINY, n_seeds=3)
    assert [training.seed for training in entry.seeds()] == [0, 1, 2]
    too_many = ValidationParameters(folds=2, sizes=(10**6,))
    with pytest.raises(InputError, match="rows"):
        plan_folds.fn(stages.root, stages.features, too_many)


def test_entries_are_compared_on_the_same_rows(stages: Any) -> None:
    entries = {"net": TINY, "forest": TrainParameters(network="random_forest", threads=1)}
    runs = []
    for name, training in entries.items():
        for plan in plan_folds.fn(stages.root, stages.features, TWO):
            ref = stages.run(run_fold, stages.features, plan, TWO, training)
            runs.append(FoldRun(name, training.seed, plan.name, plan.size, ref))
    ref = stages.run(summarise_folds, stages.features, runs, TWO)
    summary = json.loads(stages.store.read_bytes(ref, SUMMARY))
    for line in summary["entries"]:
        maes = [result(stages, run.ref)["metrics"]["mae"] for run in runs if run.entry == line["entry"]]
        assert line["mae"] == pytest.approx(np.mean(maes))
        assert line["n_folds"] == 2
    (pair,) = summary["comparisons"]
    assert (pair["first"], pair["second"]) == ("net", "forest")
    errors = {
        name: np.concatenate(
            [
                np.abs(table["prediction"] - table["truth"])
                for run in runs if run.entry == name
                for table in [stages.store.read_table(run.ref, "fold").to_pandas()]
            ]
        )
        for name in entries
    }  # fmt: skip
    assert pair["difference"] == pytest.approx(errors["net"].mean() - errors["forest"].mean())
    assert 0 <= pair["p_value"] <= pair["p_adjusted"] <= 1
    table = stages.store.read_table(ref, "cross_validation").to_pandas()
    assert table["entry"].tolist() == ["net", "net", "forest", "forest"]


def test_a_model_goes_on_or_predicts_as_it_is(stages: Any) -> None:
    plan = plan_folds.fn(stages.root, stages.features, TWO)[0]
    training = stages.training_parameters.model_copy(update={"epochs": 1, "threads": 1})
    as_it_is = stages.run(run_fold, stages.features, plan, TWO, training, stages.network, True)
    further = stages.run(run_fold, stages.features, plan, TWO, training, stages.network, False)
    scratch = stages.run(run_fold, stages.features, plan, TWO, training)
    keys = {ref.key for ref in (as_it_is, further, scratch)}
    assert len(keys) == 3
    assert result(stages, as_it_is)["transfer"]["only_target"] == []
    rows = load_examples(stages.features, "element_fraction")
    from tasks.loading import load_predictor

    expected = load_predictor(stages.network).predict(rows.x[folds_of(stages.features, TWO)[0].test])[0]
    table = stages.store.read_table(as_it_is, "fold").to_pandas()
    assert table["prediction"].to_numpy() == pytest.approx(expected, abs=1e-5)


def test_other_labels_and_classes(stages: Any) -> None:
    energies = ExampleParameters(above=-1.0)
    ref = stages.run(choose_examples, stages.energies, energies)
    examples = load_examples(ref, "element_fraction")
    assert examples.is_classes
    assert set(examples.y[:, 0]) == {0.0, 1.0}
    plan = plan_folds.fn(stages.root, ref, TWO)[0]
    training = TINY.model_copy(update={"settings": {"loss": "cross_entropy"}, "epochs": 20})
    said = result(stages, stages.run(run_fold, ref, plan, TWO, training))
    assert set(said["metrics"]) >= {"accuracy", "f1", "auc"}
    with pytest.raises(InputError, match="cross_entropy"):
        run_fold.fn(stages.root, ref, plan, TWO, TINY)


def test_wrong_parameters_are_one_clear_error(stages: Any) -> None:
    with pytest.raises(ValidationError, match="not known"):
        TrainParameters(network="alexnet")
    with pytest.raises(ValidationError, match="Ti-O"):
        ValidationParameters(scheme="holdout")
    for twice in ({"sizes": (20, 20)}, {"scheme": "holdout", "holdouts": ("Ti-O", "Ti-O")}):
        with pytest.raises(ValidationError, match="count double"):
            ValidationParameters(**twice)
    with pytest.raises(ValidationError, match="give a model"):
        EntryParameters(name="x", as_it_is=True)
    with pytest.raises(ValidationError, match="no column of numbers"):
        ExampleParameters(targets=("formula",))
    with pytest.raises(InputError, match=r"Kr-Xe|Xe-Kr"):
        folds_of(stages.features, ValidationParameters(scheme="holdout", holdouts=("Xe-Kr",)))
    with pytest.raises(InputError, match="structural attributes"):
        run_fold.fn(
            stages.root, stages.features, FoldPlan("fold-1", None), TWO,
            TINY.model_copy(update={"representation": "voronoi"}),
        )  # fmt: skip
