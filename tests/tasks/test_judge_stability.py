"""Stability judged from folds: whose hull it is, what is learnt, and that each compound is judged once."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from models.baselines import fit_baseline
from models.cleaning import system_draw
from models.errors import InputError
from models.folds import training_subsets
from models.formula import parse_many
from models.hull import PhaseHull
from storage.artifact import ArtifactRef
from storage.schemas import SCHEMAS
from tasks.cross_validation import FoldRun
from tasks.examples import ExampleParameters, choose_examples, load_examples
from tasks.fold import folds_of, plan_folds, run_fold
from tasks.judge_stability import RESULT, StabilitySetting, judge_stability
from tasks.train_parameters import TrainParameters
from tasks.validation_parameters import ValidationParameters

LINEAR = TrainParameters(network="linear", threads=1)
TINY = TrainParameters(
    network="elemnet",
    architecture={"widths": [32, 16, 1]},
    preset="small",
    epochs=2,
    threads=1,
    settings={"warmup": 0.0},
)
ENTRIES = {"line": LINEAR, "net": TINY}
RANDOM, GROUPED, DIRECT = (
    setting.validation(folds=3, held_fraction=0.1, seed=0)
    for setting in (
        StabilitySetting(judged="all_predicted"),
        StabilitySetting(judged="training_competitors", scheme="grouped"),
        StabilitySetting(judged="direct"),
    )
)


@pytest.fixture(scope="module")
def rows(stages: Any) -> ArtifactRef:
    """Every row of the table, as the benchmark takes them."""
    return stages.run(choose_examples, stages.energies, ExampleParameters())


def runs_of(stages: Any, rows: ArtifactRef, validation: ValidationParameters, *names: str) -> list[FoldRun]:
    return [
        FoldRun(name, 0, plan.name, plan.size, stages.run(run_fold, rows, plan, validation, ENTRIES[name]))
        for name in names or tuple(ENTRIES)
        for plan in plan_folds.fn(stages.root, rows, validation)
    ]


def judged(stages: Any, rows: ArtifactRef, validation: ValidationParameters, how: str, *names: str) -> Any:
    ref = stages.run(judge_stability, rows, runs_of(stages, rows, validation, *names), validation, how)
    return json.loads(stages.store.read_bytes(ref, RESULT)), stages.store.read_table(ref).to_pandas()


def truth_of(rows: ArtifactRef) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Fractions, energies and decomposition energies of all rows."""
    examples = load_examples(rows, "element_fraction")
    fractions, energies = parse_many(examples.formula).fractions, examples.y[:, 0]
    return fractions, energies, PhaseHull(fractions, energies).decomposition_energy(fractions, energies)


def predictions(stages: Any, runs: list[FoldRun]) -> pd.DataFrame:
    return pd.concat(stages.store.read_table(run.ref, "fold").to_pandas() for run in runs).sort_values("row")


def test_all_predicted(stages: Any, rows: ArtifactRef) -> None:
    result, table = judged(stages, rows, RANDOM, "all_predicted")
    fractions, energies, truth = truth_of(rows)
    assert [entry["entry"] for entry in result["entries"]] == ["line", "net"]
    assert result["rows"] == len(energies)
    for entry in result["entries"]:
        said = predictions(stages, runs_of(stages, rows, RANDOM, entry["entry"]))
        assert said["row"].tolist() == list(range(len(energies)))
        values = said["prediction"].to_numpy()
        part = table[table["entry"] == entry["entry"]]
        assert part["row"].tolist() == list(range(len(energies)))
        expected = PhaseHull(fractions, values).decomposition_energy(fractions, values)
        np.testing.assert_allclose(part["predicted"], expected, atol=1e-12)
        np.testing.assert_allclose(part["true"], truth, atol=1e-12)
        assert entry["formation_energy_mae"] == pytest.approx(np.abs(values - energies).mean())
        found = entry["stability"]
        assert found["true_positives"] == int(((expected < 0) & (truth < 0)).sum())
        assert found["mae"] == pytest.approx(np.abs(expected - truth).mean())
        assert found["over_groups"]["groups"] == part["chemsys"].nunique()
    assert "true_energies" not in result
    fold_of = {row: fold.name for fold in folds_of(rows, RANDOM) for row in fold.test.tolist()}
    assert table["fold"].tolist() == [fold_of[row] for row in table["row"]]


def test_training_competitors_are_true_energies_of_the_training_rows(stages: Any, rows: ArtifactRef) -> None:
    result, table = judged(stages, rows, GROUPED, "training_competitors", "line")
    fractions, energies, truth = truth_of(rows)
    said = predictions(stages, runs_of(stages, rows, GROUPED, "line"))["prediction"].to_numpy()
    perfect = np.empty(len(energies))
    for fold in folds_of(rows, GROUPED):
        hull = PhaseHull(fractions[fold.train], energies[fold.train])
        expected = hull.decomposition_energy(fractions[fold.test], said[fold.test])
        np.testing.assert_allclose(table["predicted"].to_numpy()[fold.test], expected, atol=1e-12)
        perfect[fold.test] = hull.decomposition_energy(fractions[fold.test], energies[fold.test])
    # fewer competitors can only make a compound look more stable
    assert (perfect <= truth + 1e-12).all()
    found = result["true_energies"]
    assert found["recall"]["share"] == 1.0
    assert found["false_positives"] == int(((perfect < 0) & (truth >= 0)).sum()) > 0
    assert found["always_stable"] == result["entries"][0]["stability"]["always_stable"]


def test_decomposition_energies_are_learnt_from_the_training_rows_alone(stages: Any, rows: ArtifactRef) -> None:
    examples = load_examples(rows, "element_fraction")
    before = examples.y.copy()
    runs = runs_of(stages, rows, DIRECT, "line")
    fractions, energies, truth = truth_of(rows)
    for run, fold in zip(runs, folds_of(rows, DIRECT), strict=True):
        result = json.loads(stages.store.read_bytes(run.ref, "fold.json"))
        assert result["n_held"] > 0
        assert result["n_train"] + result["n_held"] == len(fold.train)
        table = stages.store.read_table(run.ref, "fold").to_pandas()
        np.testing.assert_allclose(table["truth"], truth[fold.test], atol=1e-12)
        hull = PhaseHull(fractions[fold.train], energies[fold.train])  # held-back rows are known too
        labels = hull.decomposition_energy(fractions[fold.train], energies[fold.train])
        assert not np.allclose(labels, truth[fold.train])
        chosen = np.isin(fold.train, _learnt(examples, fold.train, DIRECT))
        assert chosen.sum() == result["n_train"]
        fitted = fit_baseline("linear", examples.x[fold.train][chosen], labels[chosen], task="regression")
        np.testing.assert_allclose(table["prediction"], fitted.predict(examples.x[fold.test]).ravel(), atol=1e-6)
    assert load_examples(rows, "element_fraction") is examples  # what others read from the cache is untouched
    np.testing.assert_array_equal(examples.y, before)
    result, table = judged(stages, rows, DIRECT, "direct", "line")
    np.testing.assert_array_equal(table["predicted"], predictions(stages, runs)["prediction"])
    np.testing.assert_allclose(table["true"], truth, atol=1e-12)
    (entry,) = result["entries"]
    assert entry["formation_energy_mae"] is None


def _learnt(examples: Any, train: NDArray[np.int64], validation: ValidationParameters) -> NDArray[np.int64]:
    draws = [system_draw(name, validation.seed, "held") for name in examples.chemsys[train]]
    return train[np.array(draws) >= validation.held_fraction]


def test_a_network_learns_decomposition_energies_too(stages: Any, rows: ArtifactRef) -> None:
    plan = plan_folds.fn(stages.root, rows, DIRECT)[0]
    energies, decomposition = (
        stages.run(run_fold, rows, plan, validation, TINY) for validation in (RANDOM, DIRECT)
    )  # fmt: skip
    assert energies.key != decomposition.key
    means = [stages.store.read_table(ref, "fold").to_pandas()["prediction"].mean() for ref in (energies, decomposition)]
    assert means[0] < -0.5 < means[1]  # the tiny chemistry's formation energies are deep, its hull is near


def test_fewer_training_rows_know_fewer_competitors(stages: Any, rows: ArtifactRef) -> None:
    sizes = DIRECT.model_copy(update={"sizes": (40,)})
    plan = plan_folds.fn(stages.root, rows, sizes)[0]
    table = stages.store.read_table(stages.run(run_fold, rows, plan, sizes, LINEAR), "fold").to_pandas()
    examples, (fractions, energies, truth) = load_examples(rows, "element_fraction"), truth_of(rows)
    fold = folds_of(rows, sizes)[0]
    train = _learnt(examples, fold.train, sizes)
    held = np.setdiff1d(fold.train, train)
    (chosen,) = training_subsets([examples.formula[row] for row in train], (40,), sizes.seed)
    known = np.concatenate([train[chosen], held])
    hull = PhaseHull(fractions[known], energies[known])
    labels = hull.decomposition_energy(fractions[train[chosen]], energies[train[chosen]])
    fitted = fit_baseline("linear", examples.x[train[chosen]], labels, task="regression")
    np.testing.assert_allclose(table["prediction"], fitted.predict(examples.x[fold.test]).ravel(), atol=1e-6)
    np.testing.assert_allclose(table["truth"], truth[table["row"]], atol=1e-12)  # which all rows decide, as ever


def test_keys_of_other_folds_do_not_change() -> None:
    assert "relabel" not in RANDOM.description()
    assert DIRECT.description() == RANDOM.description() | {"relabel": "decomposition_energy"}
    split = ValidationParameters(scheme="split", relabel="decomposition_energy")
    assert split.description() == {"scheme": "split", "seed": 0, "relabel": "decomposition_energy"}


def test_the_split_of_the_table_can_be_relabelled(stages: Any, rows: ArtifactRef) -> None:
    split = ValidationParameters(scheme="split", relabel="decomposition_energy")
    (plan,) = plan_folds.fn(stages.root, rows, split)
    table = stages.store.read_table(stages.run(run_fold, rows, plan, split, LINEAR), "fold").to_pandas()
    np.testing.assert_allclose(table["truth"], truth_of(rows)[2][table["row"]], atol=1e-12)


def test_the_table_has_its_schema(stages: Any, rows: ArtifactRef) -> None:
    _, table = judged(stages, rows, RANDOM, "all_predicted")
    assert list(table.columns) == SCHEMAS["stability"].arrow.names
    assert SCHEMAS["stability"].unit("predicted") == "eV/atom"
    ref = stages.run(judge_stability, rows, runs_of(stages, rows, RANDOM), RANDOM, "all_predicted")
    assert stages.counts(ref) == {"rows": len(table) // 2, "stable": int((table["true"] < 0).sum()) // 2, "entries": 2}


def test_seeds_and_sizes_are_judged_apart(stages: Any, rows: ArtifactRef) -> None:
    runs = runs_of(stages, rows, RANDOM, "line")
    again = [run._replace(seed=1) for run in runs] + [run._replace(size=50) for run in runs]
    ref = stages.run(judge_stability, rows, runs + again, RANDOM, "all_predicted")
    result = json.loads(stages.store.read_bytes(ref, RESULT))
    assert [(entry["seed"], entry["size"]) for entry in result["entries"]] == [(0, None), (1, None), (0, 50)]
    assert len({json.dumps(entry["stability"]) for entry in result["entries"]}) == 1
    assert stages.store.read_table(ref).column("size").null_count == 2 * result["rows"]


def test_what_cannot_be_judged_is_one_clear_error(stages: Any, rows: ArtifactRef) -> None:
    runs = runs_of(stages, rows, RANDOM, "line")
    with pytest.raises(InputError, match=r"line differ .* fold-3"):
        judge_stability.fn(stages.root, rows, runs[:-1], RANDOM, "all_predicted")
    with pytest.raises(InputError, match="at least one entry"):
        judge_stability.fn(stages.root, rows, [], RANDOM, "all_predicted")
    with pytest.raises(InputError, match="'direct' does not go with folds of formation_energy"):
        judge_stability.fn(stages.root, rows, runs, RANDOM, "direct")
    with pytest.raises(InputError, match="'all_predicted' does not go with folds of decomposition_energy"):
        judge_stability.fn(stages.root, rows, runs, DIRECT, "all_predicted")
    with pytest.raises(InputError, match="scheme split"):
        judge_stability.fn(stages.root, rows, runs, ValidationParameters(scheme="split"), "all_predicted")
    swapped = [run._replace(fold=other.fold) for run, other in zip(runs, runs[1:] + runs[:1], strict=True)]
    with pytest.raises(InputError, match="does not predict all"):
        judge_stability.fn(stages.root, rows, swapped, RANDOM, "all_predicted")
    classes = stages.run(choose_examples, stages.energies, ExampleParameters(above=-1.0))
    with pytest.raises(InputError, match="stability is judged from formation_energy"):
        judge_stability.fn(stages.root, classes, runs, RANDOM, "all_predicted")
    plan = plan_folds.fn(stages.root, classes, DIRECT)[0]
    with pytest.raises(InputError, match="decomposition energies come from formation_energy"):
        run_fold.fn(stages.root, classes, plan, DIRECT, LINEAR)
