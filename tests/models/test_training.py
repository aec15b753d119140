"""The trainer: what it learns, that it repeats itself, and that it resumes to the same bits."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from models.elemnet import ElemNet
from models.errors import InputError
from models.losses import ROBUST
from models.optimisation import learning_rate_at
from models.training import EpochReport, TrainedNetwork, TrainingParameters, TrainingState, train_network
from models.training_parameters import preset_for
from models.training_rows import class_weights, training_rows
from models.training_state import data_digest

SMALL = TrainingParameters(epochs=6, batch_size=16, learning_rate=3e-3, precision="fp32", threads=1, average_every=2)


def build() -> ElemNet:
    return ElemNet(5, (32, 16, 1), input_scale=4.0)


def build_with_dropout() -> ElemNet:
    return ElemNet(5, (32, 16, 1), dropout=(0.8,), dropout_after=(1,))


@pytest.fixture
def rows() -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    x = np.random.default_rng(0).dirichlet(np.ones(5), size=120)
    y = x @ np.array([1.0, -2.0, 0.5, 0.0, 3.0]) + 4.0 * x[:, 0] * x[:, 1] - 7.0
    return x.astype(np.float32), y


def train(
    rows: tuple[NDArray[Any], NDArray[Any]], parameters: TrainingParameters = SMALL, **arguments: Any
) -> TrainedNetwork:
    x, y = rows
    arguments = {"build": build, **arguments}
    return train_network(x[:100], y[:100], x[100:], y[100:], parameters, **arguments)


def assert_same(a: TrainedNetwork, b: TrainedNetwork) -> None:
    assert a.history == b.history
    assert a.normalisation == b.normalisation
    assert list(a.state) == list(b.state)
    for name in a.state:
        assert a.state[name].tobytes() == b.state[name].tobytes(), name


def test_learns_a_smooth_function_in_the_units_of_the_target(rows: tuple[NDArray[Any], NDArray[Any]]) -> None:
    x, y = rows
    trained = train(rows, TrainingParameters(epochs=80, batch_size=16, learning_rate=3e-3, precision="fp32", threads=1))
    assert trained.normalisation == {"mean": [pytest.approx(y[:100].mean())], "std": [pytest.approx(y[:100].std())]}
    network = build()
    network.load_state_dict({k: torch.tensor(v) for k, v in trained.state.items()})
    with torch.no_grad():
        output = network(torch.from_numpy(x)).numpy()[:, 0].astype(np.float64)
    prediction = output * trained.normalisation["std"][0] + trained.normalisation["mean"][0]
    mae = np.abs(prediction - y)[100:].mean()
    assert mae < 0.1 * y.std()
    assert trained.history[-1]["validation_mae"] == pytest.approx(mae, rel=1e-6)
    assert trained.history[-1]["train_mae"] < 0.1 * y.std()
    assert [row["epoch"] for row in trained.history] == list(range(1, 81))


def test_repeats_itself_and_follows_the_seed(rows: tuple[NDArray[Any], NDArray[Any]]) -> None:
    assert_same(train(rows), train(rows))
    other = train(rows, TrainingParameters(**{**SMALL.to_dict(), "seed": 1}))
    assert not np.array_equal(train(rows).state["layers.0.weight"], other.state["layers.0.weight"])


def test_leaves_the_callers_random_numbers_and_threads_alone(rows: tuple[NDArray[Any], NDArray[Any]]) -> None:
    torch.manual_seed(5)
    expected, threads = torch.rand(3), torch.get_num_threads()
    torch.manual_seed(5)
    train(rows)
    assert torch.equal(torch.rand(3), expected)
    assert torch.get_num_threads() == threads


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("make", [build, build_with_dropout])
@pytest.mark.parametrize("stop_after", [1, 4])
def test_resumes_to_the_same_bits(
    rows: tuple[NDArray[Any], NDArray[Any]], precision: str, make: Any, stop_after: int
) -> None:
    parameters = TrainingParameters(**{**SMALL.to_dict(), "precision": precision})
    whole = train(rows, parameters, build=make)
    kept: list[TrainingState] = []

    def stop(report: EpochReport, state: Any) -> None:
        if report.epoch == stop_after:
            kept.append(state())
            raise Interrupted

    with pytest.raises(Interrupted):
        train(rows, parameters, build=make, on_epoch=stop)
    # As the task layer stores it: arrays by name and JSON.
    stored = TrainingState(
        {k: np.frombuffer(v.tobytes(), v.dtype).reshape(v.shape) for k, v in kept[0].tensors.items()},
        json.loads(json.dumps(kept[0].meta)),
    )
    assert_same(train(rows, parameters, build=make, resume=stored), whole)


def test_resuming_a_finished_run_returns_it(rows: tuple[NDArray[Any], NDArray[Any]]) -> None:
    states: list[TrainingState] = []
    whole = train(rows, on_epoch=lambda report, state: states.append(state()))
    assert len(states) == SMALL.epochs
    assert_same(train(rows, resume=states[-1]), whole)


def test_captured_state_does_not_change_with_the_run(rows: tuple[NDArray[Any], NDArray[Any]]) -> None:
    first: list[tuple[TrainingState, str]] = []

    def keep(report: EpochReport, state: Any) -> None:
        if report.epoch == 1:
            captured = state()
            first.append((captured, data_digest(*captured.tensors.values())))

    train(rows, on_epoch=keep)
    state, digest = first[0]
    assert data_digest(*state.tensors.values()) == digest
    assert len(state.meta["history"]) == 1


def test_reports_each_epoch(rows: tuple[NDArray[Any], NDArray[Any]]) -> None:
    reports: list[EpochReport] = []
    trained = train(rows, on_epoch=lambda report, state: reports.append(report))
    assert [(r.epoch, r.n_epochs) for r in reports] == [(k, 6) for k in range(1, 7)]
    assert [r.train_error for r in reports] == [row["train_mae"] for row in trained.history]
    assert [r.validation_error for r in reports] == [row["validation_mae"] for row in trained.history]
    assert all(b.elapsed >= a.elapsed >= 0 for a, b in itertools.pairwise(reports))
    json.dumps(trained.history)


def test_trains_without_held_out_rows(rows: tuple[NDArray[Any], NDArray[Any]]) -> None:
    x, y = rows
    none = train_network(x, y, None, None, SMALL, build=build)
    empty = train_network(x, y, x[:0], y[:0], SMALL, build=build)
    assert_same(none, empty)
    assert none.history[-1]["validation_mae"] is None


def test_a_set_smaller_than_a_batch_is_one_batch(rows: tuple[NDArray[Any], NDArray[Any]]) -> None:
    x, y = rows
    trained = train_network(x[:7], y[:7], None, None, SMALL, build=build)
    assert all(np.isfinite(v).all() for v in trained.state.values())


def test_a_small_set_is_passed_over_until_it_has_its_steps(rows: tuple[NDArray[Any], NDArray[Any]]) -> None:
    reports: list[EpochReport] = []
    few = replace(SMALL, epochs=2, min_steps=25)  # of 100 // 16 = 6 per epoch
    trained = train(rows, few, on_epoch=lambda report, _: reports.append(report))
    assert [(report.epoch, report.n_epochs, report.is_last) for report in reports] == [
        (epoch, 5, epoch == 5) for epoch in range(1, 6)
    ]
    assert_same(trained, train(rows, replace(SMALL, epochs=5)))
    assert few.epochs_for(1600) == 2
    assert few.epochs_for(7) == 25
    assert TrainingParameters().to_dict().get("min_steps") is None  # keys of earlier models


def test_squared_loss_and_automatic_precision(rows: tuple[NDArray[Any], NDArray[Any]]) -> None:
    squared = train(rows, TrainingParameters(**{**SMALL.to_dict(), "loss": "mse", "precision": "auto"}))
    assert squared.history[-1]["train_mae"] < squared.history[0]["train_mae"]


def test_weight_decay_leaves_biases_alone(rows: tuple[NDArray[Any], NDArray[Any]]) -> None:
    x, y = rows
    strong = TrainingParameters(**{**SMALL.to_dict(), "weight_decay": 300.0, "epochs": 30})
    trained = train_network(x, y, None, None, strong, build=build)
    assert np.abs(trained.state["layers.0.weight"]).max() < 0.05
    assert np.abs(trained.state["layers.2.bias"]).max() > 0


def test_averages_buffers_by_taking_the_latest(rows: tuple[NDArray[Any], NDArray[Any]]) -> None:
    def with_buffer() -> torch.nn.Module:
        return torch.nn.Sequential(
            torch.nn.Linear(5, 8), torch.nn.BatchNorm1d(8), torch.nn.ReLU(), torch.nn.Linear(8, 1)
        )

    trained = train(rows, build=with_buffer)
    assert int(trained.state["1.num_batches_tracked"]) == 6 * 6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y: (x[:0], y[:0]), "empty"),
        (lambda x, y: (x, np.full_like(y, 2.5)), "constant"),
        (lambda x, y: (x, np.where(np.arange(len(y)) == 3, np.nan, y)), "1 NaN"),
        (lambda x, y: (np.where(x > 0.9, np.inf, x + np.inf), y), "features hold NaN"),
        (lambda x, y: (x, y[:-1]), "120 rows and 119 labels"),
        (lambda x, y: (x[:, 0], y), "shape"),
        (lambda x, y: (x[:, :0], y), "empty"),
    ],
)
def test_unusable_rows_are_refused(rows: tuple[NDArray[Any], NDArray[Any]], change: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        train_network(*change(*rows), None, None, SMALL, build=build)


def test_held_out_rows_must_fit(rows: tuple[NDArray[Any], NDArray[Any]]) -> None:
    x, y = rows
    with pytest.raises(InputError, match="4 columns"):
        train_network(x, y, x[:, :4], y, SMALL, build=build)
    with pytest.raises(InputError, match="held-out target"):
        train_network(x, y, x, y * np.nan, SMALL, build=build)


def test_divergence_is_one_clear_error(rows: tuple[NDArray[Any], NDArray[Any]]) -> None:
    with pytest.raises(InputError, match="lower learning_rate"):
        train(rows, TrainingParameters(**{**SMALL.to_dict(), "learning_rate": 1e30, "weight_decay": 0.0}))


def test_foreign_checkpoints_are_refused(rows: tuple[NDArray[Any], NDArray[Any]]) -> None:
    states: list[TrainingState] = []
    train(rows, on_epoch=lambda report, state: states.append(state()))
    state = states[0]
    with pytest.raises(InputError, match="other seed"):
        train(rows, TrainingParameters(**{**SMALL.to_dict(), "seed": 1}), resume=state)
    with pytest.raises(InputError, match="other training rows"):
        train((rows[0], rows[1] + 1.0), resume=state)
    with pytest.raises(InputError, match="another architecture"):
        train(rows, build=lambda: ElemNet(5, (16, 1)), resume=state)
    with pytest.raises(InputError, match="another architecture"):
        train(rows, build=lambda: ElemNet(5, (16, 16, 1)), resume=state)
    with pytest.raises(InputError, match="format 0"):
        train(rows, resume=TrainingState(state.tensors, {**state.meta, "version": 0}))
    tensors = {k: v for k, v in state.tensors.items() if k != "moment1/layers.0.weight"}
    with pytest.raises(InputError, match=r"moment1/layers\.0\.weight"):
        train(rows, resume=TrainingState(tensors, state.meta))


@pytest.mark.parametrize(
    "change",
    [
        {"optimiser": "sgd", "learning_rate": 0.05},
        {"optimiser": "sgd", "momentum": 0.0, "learning_rate": 0.05, "schedule": "step"},
        {"optimiser": "adam", "weight_decay": 0.0, "schedule": "linear", "clip_norm": 0.5},
        {"loss": "robust_l1", "average_horizon": 0.0},
        {"loss": "robust_l2", "patience": 2, "learning_rate": 0.03, "epochs": 30},
    ],
)
def test_every_optimiser_schedule_and_loss_resumes_to_the_same_bits(
    rows: tuple[NDArray[Any], NDArray[Any]], change: dict[str, Any]
) -> None:
    parameters = TrainingParameters(**{**SMALL.to_dict(), **change})

    def make() -> ElemNet:
        return ElemNet(5, (32, 16, 2 if parameters.loss in ROBUST else 1))

    states: list[TrainingState] = []
    whole = train(rows, parameters, build=make, on_epoch=lambda report, state: states.append(state()))
    assert whole.history[-1]["train_loss"] < whole.history[0]["train_loss"]
    for state in (states[1], states[-1]):
        stored = TrainingState(dict(state.tensors), json.loads(json.dumps(state.meta)))
        assert_same(train(rows, parameters, build=make, resume=stored), whole)


def test_early_stopping_takes_the_best_epoch(rows: tuple[NDArray[Any], NDArray[Any]]) -> None:
    parameters = TrainingParameters(**{**SMALL.to_dict(), "patience": 2, "epochs": 200, "learning_rate": 0.03})
    reports: list[EpochReport] = []
    states: list[TrainingState] = []

    def watch(report: EpochReport, state: Any) -> None:
        reports.append(report)
        states.append(state())

    trained = train(rows, parameters, on_epoch=watch)
    losses = [line["validation_loss"] for line in trained.history]
    best = int(np.argmin(losses))
    assert len(losses) == best + 1 + 2 < 200
    assert [report.is_last for report in reports] == [False] * (len(losses) - 1) + [True]
    for name, array in trained.state.items():
        assert array.tobytes() == states[best].tensors["average/" + name].tobytes()
    with pytest.raises(InputError, match="held-out"):
        train_network(*rows, None, None, parameters, build=build)


def test_several_targets_may_miss_labels(rows: tuple[NDArray[Any], NDArray[Any]]) -> None:
    x, y = rows
    both = np.column_stack([y, 100.0 * x[:, 1]])
    both[::3, 1] = np.nan
    long = TrainingParameters(**{**SMALL.to_dict(), "epochs": 60})
    trained = train_network(x, both, None, None, long, build=lambda: ElemNet(5, (32, 16, 2)))
    present = ~np.isnan(both[:, 1])
    assert trained.normalisation["mean"] == pytest.approx([y.mean(), both[present, 1].mean()])
    network = ElemNet(5, (32, 16, 2))
    network.load_state_dict({k: torch.tensor(v) for k, v in trained.state.items()})
    output = network(torch.from_numpy(x)).detach().numpy() * trained.normalisation["std"]
    prediction = output + trained.normalisation["mean"]
    # the labels that nobody gave are learnt from the others
    assert np.abs(prediction[~present, 1] - 100.0 * x[~present, 1]).mean() < 0.3 * (100.0 * x[:, 1]).std()
    both[4] = np.nan
    with pytest.raises(InputError, match="1 NaN"):
        train_network(x, both, None, None, long, build=lambda: ElemNet(5, (32, 16, 2)))


def test_classes_are_learnt_and_may_count_alike(rows: tuple[NDArray[Any], NDArray[Any]]) -> None:
    x, _ = rows
    y = (x[:, 0] > 0.4).astype(int)  # a rare class
    settings = TrainingParameters(**{**SMALL.to_dict(), "loss": "cross_entropy", "epochs": 40})

    def make() -> ElemNet:
        return ElemNet(5, (32, 16, 2))

    trained = train_network(x, y, x, y, settings, build=make)
    assert trained.normalisation == {"mean": [], "std": []}
    assert trained.history[-1]["validation_error_rate"] < 0.5 * y.mean()
    assert "train_mae" not in trained.history[-1]
    balanced = training_rows(x, y, None, None, "cross_entropy")[0]
    weights = class_weights(balanced, True)
    assert weights is not None
    assert weights.tolist() == pytest.approx([60 / (y == 0).sum(), 60 / (y == 1).sum()])
    assert class_weights(balanced, False) is None
    for labels, message in ((np.zeros(120, int), "one class"), (np.arange(120) // 119, "at least two")):
        with pytest.raises(InputError, match=message):
            train_network(x, labels, None, None, settings, build=make)
    with pytest.raises(InputError, match="whole numbers"):
        train_network(x, y * 0.5, None, None, settings, build=make)


def test_layers_are_frozen_and_slowed(rows: tuple[NDArray[Any], NDArray[Any]]) -> None:
    first = train(rows).state
    frozen = {"layers.0.weight": 0.0, "layers.0.bias": 0.0, "layers.1.weight": 0.1}
    other = (rows[0], rows[1] + 3.0 * rows[0][:, 2])
    tuned = train(other, initial=first, rate_factors=frozen).state
    free = train(other, initial=first).state
    assert np.array_equal(tuned["layers.0.weight"], first["layers.0.weight"])
    assert not np.array_equal(tuned["layers.1.weight"], first["layers.1.weight"])
    moved = [np.abs(state["layers.1.weight"] - first["layers.1.weight"]).mean() for state in (tuned, free)]
    assert moved[0] < moved[1]
    with pytest.raises(InputError, match="no parameter"):
        train(rows, rate_factors={"layers.9.weight": 0.0})
    with pytest.raises(InputError, match="nothing to train"):
        train(rows, rate_factors=dict.fromkeys(first, 0.0))
    states: list[TrainingState] = []
    train(other, initial=first, rate_factors=frozen, on_epoch=lambda report, state: states.append(state()))
    resumed = train(other, initial=first, rate_factors=frozen, resume=states[2]).state
    assert all(resumed[name].tobytes() == tuned[name].tobytes() for name in tuned)


def test_frozen_normalisations_keep_their_statistics(rows: tuple[NDArray[Any], NDArray[Any]]) -> None:
    def make() -> nn.Module:
        return nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 1))

    settings = TrainingParameters(epochs=2, batch_size=16, threads=1)
    first = train_network(*rows, None, None, settings, build=make).state
    names = ("0.weight", "0.bias", "1.weight", "1.bias")
    other = (rows[0] + 1.0, rows[1])
    tuned = train_network(
        *other, None, None, settings, build=make, initial=first, rate_factors=dict.fromkeys(names, 0.0)
    ).state
    for name in (*names, "1.running_mean", "1.running_var"):
        assert np.array_equal(tuned[name], first[name]), name
    assert not np.array_equal(tuned["3.weight"], first["3.weight"])
    free = train_network(*other, None, None, settings, build=make, initial=first).state
    assert not np.array_equal(free["1.running_mean"], first["1.running_mean"])


def test_schedule_rises_to_the_peak_and_falls_to_zero() -> None:
    parameters = TrainingParameters(learning_rate=1e-3, warmup=0.25)
    rates = [learning_rate_at(step, 100, parameters) for step in range(100)]
    assert rates[0] == pytest.approx(4e-5)
    assert rates[25] == pytest.approx(1e-3)
    assert max(rates) == rates[25]
    assert np.all(np.diff(rates[:26]) > 0)
    assert np.all(np.diff(rates[25:]) < 0)
    assert 0 < rates[-1] < 1e-6
    flat = TrainingParameters(warmup=0.0)
    assert learning_rate_at(0, 10, flat) == 1e-3
    assert learning_rate_at(5, 10, flat) == pytest.approx(5e-4)


def test_presets_and_dictionaries() -> None:
    standard = replace(TrainingParameters(), learning_rate=2e-3, weight_decay=0.15)
    assert TrainingParameters.preset(preset_for(140_000)) == TrainingParameters.preset("standard") == standard
    small = TrainingParameters.preset(preset_for(6_000), seed=3)
    assert small == TrainingParameters.preset("small", seed=3)
    assert small.batch_size < TrainingParameters().batch_size
    assert TrainingParameters.from_dict(json.loads(json.dumps(small.to_dict()))) == small
    with pytest.raises(InputError, match="choose one of small, standard"):
        TrainingParameters.preset("huge")
    with pytest.raises(InputError, match="'nesterov'"):
        TrainingParameters.from_dict({"nesterov": True})
    assert not set(small.to_dict()) & {"optimiser", "schedule", "patience"}
    assert TrainingParameters.from_dict({"patience": 3}).to_dict()["patience"] == 3


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": 0},
        {"epochs": 1.5},
        {"batch_size": True},
        {"average_every": 0},
        {"learning_rate": 0.0},
        {"learning_rate": math.nan},
        {"average_horizon": -1.0},
        {"weight_decay": -0.1},
        {"warmup": 1.0},
        {"loss": "hinge"},
        {"precision": "fp64"},
        {"seed": -1},
        {"threads": 0},
        {"optimiser": "lbfgs"},
        {"schedule": "plateau"},
        {"momentum": 1.0},
        {"beta2": 0.0},
        {"clip_norm": 0.0},
        {"patience": 0},
        {"min_steps": -1},
        {"min_steps": 2.5},
    ],
)
def test_impossible_parameters_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        TrainingParameters(**change)
