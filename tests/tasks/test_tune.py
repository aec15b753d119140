"""A search over trainings: what is trained with what, that nothing is trained twice, and what a failure does."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from models.errors import InputError
from storage.artifact import ArtifactRef
from tasks import fold
from tasks.examples import ExampleParameters, choose_examples
from tasks.fold import FoldPlan, folds_of, plan_folds
from tasks.stage import reference
from tasks.train_parameters import TrainParameters
from tasks.tune import DIVERGENCE, SUMMARY, TrialRun, Work, run_trial, search_trials, summarise_trials
from tasks.tune_parameters import TuneParameters, configured
from tasks.validation_parameters import ValidationParameters

TINY = TrainParameters(network="elemnet", architecture={"widths": [16, 1]}, preset="small", threads=1)
TWO = ValidationParameters(scheme="grouped", folds=2)
SMALL = TuneParameters(
    space=("learning_rate=1e-4..1e-2:log", "batch_size=16|32|64"),
    n_trials=4, batch=2, eta=2, min_epochs=1, max_epochs=2, validation=TWO, seed=1,
)  # fmt: skip


class Bench:
    """Runs trials one after the other without Prefect; stops, as a kill does, after so many."""

    def __init__(self, stages: Any, tuning: TuneParameters, stops_after: int | None = None) -> None:
        self.stages, self.tuning, self.left = stages, tuning, stops_after
        self.work: list[Work] = []
        self.rows = stages.features

    def run(self, work: Sequence[Work]) -> list[ArtifactRef]:
        refs = []
        for one in work:
            if self.left is not None and self.left == len(self.work):
                raise KeyboardInterrupt
            self.work.append(one)
            held = self.tuning.validation
            refs.append(reference(run_trial.fn(self.stages.root, self.rows, one.plan, held, one.training)))
        return refs

    def search(self, training: TrainParameters = TINY) -> list[TrialRun]:
        plans = plan_folds.fn(self.stages.root, self.rows, self.tuning.validation)
        return search_trials(self.stages.root, plans, training, self.tuning, self.run)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is trained, by the scratch folder of its key."""
    found: list[str] = []
    learn = fold.learn

    def counted(*arguments: Any) -> Any:
        found.append(arguments[4].name)
        return learn(*arguments)

    monkeypatch.setattr(fold, "learn", counted)
    return found


def summarise(stages: Any, bench: Bench, runs: list[TrialRun], training: TrainParameters = TINY) -> ArtifactRef:
    return stages.run(summarise_trials, bench.rows, runs, training, bench.tuning)


def summary(stages: Any, ref: ArtifactRef) -> dict[str, Any]:
    return json.loads(stages.store.read_bytes(ref, SUMMARY))


def test_rungs_are_trainings_of_more_and_more_epochs(stages: Any) -> None:
    bench = Bench(stages, SMALL)
    runs = bench.search()
    assert [(one.trial.number, one.trial.rung, one.training.epochs) for one in bench.work[:4]] == [
        (0, 0, 1), (1, 0, 1), (2, 0, 1), (3, 0, 1),
    ]  # fmt: skip
    assert [one.training.epochs for one in bench.work[4:]] == [2, 2]
    assert {one.plan for one in bench.work} == {FoldPlan("fold-1", None)}
    for run, one in zip(runs, bench.work, strict=True):
        settings = run.outcome.trial.configuration
        assert one.training.settings == {"learning_rate": settings["learning_rate"]}
        assert one.training.batch_size == settings["batch_size"]
        assert one.training.architecture == TINY.architecture
        (ref,) = run.refs
        metrics = json.loads(stages.store.read_bytes(ref, fold.RESULT))["metrics"]
        assert run.outcome.value == metrics["mae"]
    best = sorted(runs[:4], key=lambda run: run.outcome.value)[:2]
    assert {run.outcome.trial.number for run in runs[4:]} == {run.outcome.trial.number for run in best}


def test_validation_rows_are_never_looked_at(stages: Any) -> None:
    split = np.array(stages.store.read_table(stages.features).column("split").to_pylist())
    for one in folds_of(stages.features, TWO):
        assert "validation" not in set(split[one.train]) | set(split[one.test])
    for held in ({"scheme": "split"}, {"include_validation": True}):
        with pytest.raises(ValidationError, match="never sees the table's validation rows"):
            TuneParameters(validation=ValidationParameters(**held))


def test_the_table_and_the_summary(stages: Any) -> None:
    bench = Bench(stages, SMALL)
    runs = bench.search()
    ref = summarise(stages, bench, runs)
    table = stages.store.read_table(ref).to_pandas()
    assert table["trial"].tolist() == [run.outcome.trial.number for run in runs]
    assert table["rung"].tolist() == [0, 0, 0, 0, 1, 1]
    assert table["epochs"].tolist() == [1, 1, 1, 1, 2, 2]
    assert table["value"].tolist() == [run.outcome.value for run in runs]
    assert table["state"].value_counts().to_dict() == {"stopped": 2, "promoted": 2, "finished": 2}
    assert [json.loads(text) for text in table["configuration"]] == [run.outcome.trial.configuration for run in runs]
    said = summary(stages, ref)
    last = table[table["rung"] == 1]
    assert said["best"]["trial"] == last.loc[last["value"].idxmin(), "trial"]
    assert said["best"]["value"] == last["value"].min()
    assert said["best"]["epochs"] == 2
    assert said["rungs"] == [{"n_trials": 4, "epochs": 1}, {"n_trials": 2, "epochs": 2}]
    first = table[table["rung"] == 0]
    rates = first["configuration"].map(lambda text: json.loads(text)["learning_rate"])
    spearman = rates.rank().corr(first["value"].rank())
    found = {line["name"]: line["rank_correlation"] for line in said["importance"]}
    assert found["learning_rate"] == pytest.approx(spearman)
    assert stages.counts(ref) == {"trials": 4, "trainings": 6, "diverged": 0}
    inputs = stages.store.manifest(ref).inputs
    assert {record.key for name, record in inputs.items() if name != "rows"} == {
        fold_ref.key for run in runs for fold_ref in run.refs
    }


def test_a_killed_search_goes_on_where_it_was(stages: Any, trained: list[str]) -> None:
    tuning = SMALL.model_copy(update={"seed": 2})
    with pytest.raises(KeyboardInterrupt):
        Bench(stages, tuning, stops_after=3).search()
    assert len(trained) == 3
    again = Bench(stages, tuning)
    runs = again.search()
    assert len(trained) == len(set(trained)) == len(again.work) == 6  # the first three were in the store
    once_more = Bench(stages, tuning)
    assert once_more.search() == runs
    assert once_more.work == again.work
    assert len(trained) == 6
    assert summarise(stages, once_more, runs) == summarise(stages, again, runs)


def test_more_trials_train_only_what_is_new(stages: Any, trained: list[str]) -> None:
    few = TuneParameters(space=SMALL.space, sampler="random", n_trials=2, max_epochs=1, validation=TWO, seed=3)
    Bench(stages, few).search()
    more = Bench(stages, few.model_copy(update={"n_trials": 4}))
    more.search()
    assert (len(more.work), len(trained)) == (4, 4)


def test_a_trial_is_the_mean_over_its_folds(stages: Any) -> None:
    tuning = SMALL.model_copy(update={"n_trials": 2, "max_epochs": 1, "measured": 2, "metric": "rmse"})
    bench = Bench(stages, tuning)
    runs = bench.search()
    assert [one.plan.name for one in bench.work] == ["fold-1", "fold-2"] * 2
    for run in runs:
        assert [stages.store.manifest(ref).parameters["fold"] for ref in run.refs] == ["fold-1", "fold-2"]
        errors = [json.loads(stages.store.read_bytes(ref, fold.RESULT))["metrics"]["rmse"] for ref in run.refs]
        assert run.outcome.value == pytest.approx(sum(errors) / 2)


def test_a_diverging_trial_is_listed_and_not_trained_again(stages: Any, trained: list[str]) -> None:
    """A rate of 1e30 leaves no finite weight; with one step per epoch only the prediction shows it."""
    for n_rows, epochs, said in ((16, 2, "Training diverged in epoch"), (10_000, 1, "predicts no finite values")):
        tuning = TuneParameters(
            space=("learning_rate=1e-3|1e30", "optimiser=adamw|sgd"),
            sampler="grid", min_epochs=epochs, max_epochs=epochs, validation=TWO,
        )  # fmt: skip
        training = TINY.model_copy(update={"batch_size": n_rows, "settings": {"warmup": 0.0, "schedule": "constant"}})
        bench = Bench(stages, tuning)
        runs = bench.search(training)
        assert len(runs) == 4  # it goes on after the first
        for run in runs:
            diverges = run.outcome.trial.configuration["learning_rate"] == 1e30
            assert (run.outcome.state == "diverged") == diverges
            assert math.isinf(run.outcome.value) == diverges
            assert ("diverged" if diverges else "fold") == run.refs[0].kind
            if diverges:
                assert said in (run.outcome.reason or "")
                assert json.loads(stages.store.read_bytes(run.refs[0], DIVERGENCE))["fold"] == "fold-1"
        ref = summarise(stages, bench, runs, training)
        table = stages.store.read_table(ref).to_pandas()
        assert table["value"].isna().tolist() == [run.outcome.state == "diverged" for run in runs]
        assert table.loc[table["value"].isna(), "reason"].str.contains(said).all()
        assert stages.counts(ref)["diverged"] == 2
        assert summary(stages, ref)["best"]["configuration"]["learning_rate"] == 1e-3
        before = len(trained)
        assert Bench(stages, tuning).search(training) == runs
        assert len(trained) == before


def test_where_everything_diverges_there_is_one_clear_error(stages: Any) -> None:
    bench = Bench(stages, TuneParameters(space=("learning_rate=1e29|1e30",), max_epochs=2, validation=TWO))
    runs = bench.search(TINY.model_copy(update={"batch_size": 16}))
    assert {run.outcome.state for run in runs} == {"diverged"}
    with pytest.raises(InputError, match=r"no trial of the search can be used, .*Training diverged"):
        summarise(stages, bench, runs)


def test_other_errors_end_the_search(stages: Any) -> None:
    with pytest.raises(InputError, match="lerning_rate"):
        Bench(stages, SMALL.model_copy(update={"space": ("lerning_rate=1|2",)})).search()
    with pytest.raises(ValidationError, match="batch_size"):
        Bench(stages, SMALL.model_copy(update={"space": ("batch_size=0.5|2",)})).search()
    with pytest.raises(InputError, match="have no auc; measure by one of mae, rmse"):
        Bench(stages, SMALL.model_copy(update={"metric": "auc"})).search()
    one = ValidationParameters(scheme="holdout", holdouts=("Li-O",))
    with pytest.raises(InputError, match="there are 1 folds, not 2"):
        Bench(stages, SMALL.model_copy(update={"validation": one, "measured": 2})).search()


def test_a_baseline_has_one_rung(stages: Any) -> None:
    tuning = TuneParameters(space=("n_estimators=5|10", "min_samples_leaf=1..3"), sampler="grid", validation=TWO)
    bench = Bench(stages, tuning)
    training = TrainParameters(network="random_forest", threads=1)
    runs = bench.search(training)
    assert [run.outcome.state for run in runs] == ["finished"] * 6
    found = {tuple(sorted(one.training.architecture.items())) for one in bench.work}
    assert found == {(("min_samples_leaf", leaf), ("n_estimators", n)) for leaf in (1, 2, 3) for n in (5, 10)}
    table = stages.store.read_table(summarise(stages, bench, runs, training)).to_pandas()
    assert table["epochs"].isna().all()


def test_classes_are_measured_by_what_the_area_lacks(stages: Any) -> None:
    rows = stages.run(choose_examples, stages.energies, ExampleParameters(above=-1.0))
    bench = Bench(stages, TuneParameters(space=("C=0.1|10.0",), validation=TWO))
    bench.rows = rows
    for run in bench.search(TrainParameters(network="logistic", threads=1)):
        metrics = json.loads(stages.store.read_bytes(run.refs[0], fold.RESULT))["metrics"]
        assert run.outcome.value == pytest.approx(1 - metrics["auc"])


def test_settings_go_where_they_belong() -> None:
    base = TINY.model_copy(update={"settings": {"warmup": 0.0, "loss": "mae"}})
    found = configured(base, {"batch_size": 64, "loss": "huber", "dropout": 0.1, "passes": 3}, 7)
    assert (found.batch_size, found.passes, found.epochs) == (64, 3, 7)
    assert found.settings == {"warmup": 0.0, "loss": "huber"}
    assert found.architecture == {"widths": [16, 1], "dropout": 0.1}
    assert base.settings == {"warmup": 0.0, "loss": "mae"}
    boosting = configured(TrainParameters(network="gradient_boosting"), {"learning_rate": 0.1}, None)
    assert (boosting.architecture, boosting.settings) == ({"learning_rate": 0.1}, {})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"space": ("epochs=1|2",)}, "epochs is the same for all trials"),
        ({"space": ("target=a|b",)}, "target is the same"),
        ({"space": ("x=1",)}, "leaves nothing to search"),
        ({"space": ()}, "needs a space"),
        ({"min_epochs": 5, "max_epochs": 4}, "smaller first"),
        ({"measured": 6}, "there are 5 folds"),
        ({"validation": ValidationParameters(sizes=(10, 20))}, "one number of rows"),
        ({"sampler": "annealing"}, "sampler"),
        ({"eta": 1}, "eta"),
    ],
)
def test_parameters_of_no_use(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        TuneParameters(**given)
