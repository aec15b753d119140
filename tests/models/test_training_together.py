"""Members trained together: each is the network that it is alone, and goes on from the same checkpoints."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from models.composition_attention import CompositionAttention
from models.elemnet import ElemNet
from models.errors import InputError
from models.losses import evaluate
from models.multi_property import MultiPropertyNet
from models.residual import ResidualNet
from models.training import EpochReport, OnEpoch, TrainedNetwork, TrainingParameters, TrainingState, train_network
from models.training_together import can_train_together, clip_each, train_together

SMALL = TrainingParameters(epochs=5, batch_size=16, learning_rate=3e-3, precision="fp32", threads=1, average_every=2)
SEEDS = (0, 3, 4)

Rows = tuple[NDArray[np.float32], NDArray[Any]]


def build() -> ElemNet:
    return ElemNet(5, (32, 16, 1), input_scale=4.0)


def build_with_dropout() -> ElemNet:
    return ElemNet(5, (32, 16, 1), dropout=(0.8,), dropout_after=(1,))


@pytest.fixture(scope="module")
def rows() -> Rows:
    x = np.random.default_rng(0).dirichlet(np.ones(5), size=120)
    y = x @ np.array([1.0, -2.0, 0.5, 0.0, 3.0]) + 4.0 * x[:, 0] * x[:, 1] - 7.0
    return x.astype(np.float32), y


def members(**changes: Any) -> list[TrainingParameters]:
    return [TrainingParameters(**{**SMALL.to_dict(), **changes, "seed": seed}) for seed in SEEDS]


def alone(rows: Rows, parameters: Sequence[TrainingParameters], **arguments: Any) -> list[TrainedNetwork]:
    x, y = rows
    return [
        train_network(x[:100], y[:100], x[100:], y[100:], one, **{"build": build, **arguments}) for one in parameters
    ]


def together(rows: Rows, parameters: Sequence[TrainingParameters], **arguments: Any) -> list[TrainedNetwork]:
    x, y = rows
    return train_together(x[:100], y[:100], x[100:], y[100:], parameters, **{"build": build, **arguments})


def keep(states: list[list[TrainingState]]) -> list[OnEpoch]:
    """Callbacks that keep every member's states, as the task layer stores them: arrays by name and JSON."""

    def of(number: int) -> OnEpoch:
        def on_epoch(report: EpochReport, capture: Callable[[], TrainingState]) -> None:
            state = capture()
            states[number].append(TrainingState(dict(state.tensors), json.loads(json.dumps(state.meta))))

        return on_epoch

    states.extend([] for _ in SEEDS)
    return [of(number) for number in range(len(SEEDS))]


def assert_same(a: Sequence[TrainedNetwork], b: Sequence[TrainedNetwork]) -> None:
    assert [one.history for one in a] == [one.history for one in b]
    for one, other in zip(a, b, strict=True):
        assert list(one.state) == list(other.state)
        assert all(one.state[name].tobytes() == other.state[name].tobytes() for name in one.state)


def assert_close(a: Sequence[TrainedNetwork], b: Sequence[TrainedNetwork], rel: float = 1e-5) -> None:
    """Equal but for rounding, relative to the largest number of a tensor."""
    assert len(a) == len(b)
    for one, other in zip(a, b, strict=True):
        assert one.normalisation == other.normalisation
        assert list(one.state) == list(other.state)
        for name, array in other.state.items():
            assert one.state[name].dtype == array.dtype
            np.testing.assert_allclose(one.state[name], array, rtol=rel, atol=rel * np.abs(array).max(), err_msg=name)
        assert len(one.history) == len(other.history)
        for line, expected in zip(one.history, other.history, strict=True):
            assert line == {k: v if v is None else pytest.approx(v, rel=rel) for k, v in expected.items()}


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"optimiser": "sgd", "learning_rate": 0.05},
        {"optimiser": "sgd", "momentum": 0.0, "learning_rate": 0.05, "loss": "mse", "schedule": "step"},
        {"optimiser": "adam", "weight_decay": 0.0, "clip_norm": 0.5},
        {"loss": "robust_l1", "average_horizon": 0.0},
        {"loss": "robust_l2", "batch_size": 500, "epochs": 20},
    ],
)
def test_each_is_the_network_that_it_is_alone(rows: Rows, change: dict[str, Any]) -> None:
    parameters = members(**change)
    outputs = 2 if parameters[0].loss.startswith("robust") else 1

    def make() -> ElemNet:
        return ElemNet(5, (32, 16, outputs), input_scale=4.0)

    expected, states = alone(rows, parameters, build=make), []
    found = together(rows, parameters, build=make, on_epoch=keep(states))
    assert_close(found, expected)
    assert not np.allclose(found[0].state["layers.0.weight"], found[1].state["layers.0.weight"], rtol=1e-2)
    for kept in (1, -1):
        resumed = together(rows, parameters, build=make, resume=[one[kept] for one in states])
        assert_same(resumed, found)


def test_without_held_out_rows(rows: Rows) -> None:
    parameters = members()
    expected = [train_network(*rows, None, None, one, build=build) for one in parameters]
    assert_close(train_together(*rows, None, None, parameters, build=build), expected)


def test_one_member_may_be_alone(rows: Rows) -> None:
    assert_close(together(rows, members()[1:2]), alone(rows, members()[1:2]))


def test_classes_and_missing_labels(rows: Rows) -> None:
    x, y = rows
    classes = (x[:, 0] > 0.2).astype(int)
    parameters = members(loss="cross_entropy", balanced_classes=True)

    def make() -> ElemNet:
        return ElemNet(5, (32, 16, 2))

    assert_close(together((x, classes), parameters, build=make), alone((x, classes), parameters, build=make))
    both = np.column_stack([y, 100.0 * x[:, 1]])
    both[::3, 1] = np.nan
    assert_close(together((x, both), members(), build=make), alone((x, both), members(), build=make))


def test_other_networks_that_can_be_stacked(rows: Rows) -> None:
    """Buffers, fitted inputs, branches: whatever does not decide by values."""
    trunk = {"name": "elemnet", "parameters": {"widths": [16, 8]}}
    makes: list[Callable[[], nn.Module]] = [
        lambda: ResidualNet(5, widths=(16, 16, 8), batch_norm=False),
        lambda: MultiPropertyNet(5, trunk, 1, head_widths=(4,)),
    ]
    for make in makes:
        found = together(rows, members(), build=make)
        assert_close(found, alone(rows, members(), build=make))


@pytest.mark.parametrize("make", [build, build_with_dropout])
def test_a_run_that_was_cut_off_ends_with_its_own_bits(rows: Rows, make: Any) -> None:
    states: list[list[TrainingState]] = []
    whole = together(rows, members(), build=make, on_epoch=keep(states))
    for epoch in range(SMALL.epochs):
        assert_same(together(rows, members(), build=make, resume=[one[epoch] for one in states]), whole)


def test_dropout_differs_between_members_and_repeats_itself(rows: Rows) -> None:
    twice = [SMALL, SMALL]
    a, b = together(rows, twice, build=build_with_dropout)
    assert a.history[0]["train_loss"] != b.history[0]["train_loss"]  # the same seed, and other draws
    assert_same(together(rows, twice, build=build_with_dropout), [a, b])
    c, d = together(rows, twice)
    assert_same([c], [d])


def test_checkpoints_are_those_of_the_trainer(rows: Rows) -> None:
    """Each goes on from the other's, members may be at different epochs, and what is done is left alone."""
    parameters, expected = members(), alone(rows, members())
    single: list[list[TrainingState]] = []
    for watch, one in zip(keep(single), parameters, strict=True):
        alone(rows, [one], on_epoch=watch)
    joint: list[list[TrainingState]] = []
    together(rows, parameters, on_epoch=keep(joint))
    for number, one in enumerate(parameters):
        for state, other in zip(joint[number], single[number], strict=True):
            assert list(state.tensors) == list(other.tensors)
            assert {k: v for k, v in state.meta.items() if k != "history"} == {
                k: v for k, v in other.meta.items() if k != "history"
            }
            for name, array in other.tensors.items():
                np.testing.assert_allclose(state.tensors[name], array, rtol=1e-4, atol=1e-4 * np.abs(array).max())
        assert_close(alone(rows, [one], resume=joint[number][2]), [expected[number]])
    epochs: list[tuple[int, int]] = []

    def note(number: int) -> OnEpoch:
        return lambda report, capture: epochs.append((number, report.epoch))

    resume = [single[0][2], None, single[2][-1]]
    found = together(rows, parameters, resume=resume, on_epoch=[note(number) for number in range(3)])
    assert_close(found, expected)
    assert epochs == [(1, 1), (1, 2), (1, 3), (0, 4), (1, 4), (0, 5), (1, 5)]
    assert_same(found[2:], expected[2:])


def test_states_that_were_captured_stay_as_they_are(rows: Rows) -> None:
    states: list[list[TrainingState]] = []
    together(rows, members(), on_epoch=keep(states))
    again: list[list[TrainingState]] = []
    together(rows, members(epochs=5), on_epoch=keep(again), resume=[one[0] for one in states])
    for one, other in zip(states, again, strict=True):
        assert [state.meta["epoch"] for state in other] == [2, 3, 4, 5]
        for a, b in zip(one[1:], other, strict=True):
            assert all(a.tensors[name].tobytes() == b.tensors[name].tobytes() for name in a.tensors)


def test_reports_and_a_stop(rows: Rows) -> None:
    reports: list[tuple[int, EpochReport]] = []

    class Stop(Exception):
        pass

    def note(number: int) -> OnEpoch:
        def on_epoch(report: EpochReport, capture: Any) -> None:
            reports.append((number, report))
            if len(reports) == 5:
                raise Stop

        return on_epoch

    with pytest.raises(Stop):
        together(rows, members(), on_epoch=[note(0), None, note(2)])
    assert [(number, one.epoch, one.is_last) for number, one in reports] == [
        (0, 1, False), (2, 1, False), (0, 2, False), (2, 2, False), (0, 3, False)
    ]  # fmt: skip
    expected = alone(rows, members())[2].history
    assert reports[3][1].validation_error == pytest.approx(expected[1]["validation_mae"], rel=1e-5)
    assert reports[3][1].train_error == pytest.approx(expected[1]["train_mae"], rel=1e-5)


def test_leaves_the_callers_random_numbers_and_threads_alone(rows: Rows) -> None:
    torch.manual_seed(5)
    expected, threads = torch.rand(3), torch.get_num_threads()
    torch.manual_seed(5)
    together(rows, members(), build=build_with_dropout)
    assert torch.equal(torch.rand(3), expected)
    assert torch.get_num_threads() == threads


def test_mixed_precision_is_that_of_the_trainer(rows: Rows) -> None:
    def make() -> ElemNet:
        return ElemNet(5, (128, 64, 1))  # only layers wider than 64 are computed in bf16

    first, last = members(precision="bf16"), members()
    found, states = together(rows, first, build=make), []
    assert_close(found, alone(rows, first, build=make), rel=0.05)
    exact = together(rows, last, build=make)
    assert found[0].history[-1]["train_loss"] != pytest.approx(exact[0].history[-1]["train_loss"], rel=1e-6)
    together(rows, first, build=make, on_epoch=keep(states))
    assert_same(together(rows, first, build=make, resume=[one[1] for one in states]), found)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), limit=st.floats(0.01, 10.0), n_members=st.integers(1, 4))
def test_gradients_are_clipped_for_each_as_for_one(seed: int, limit: float, n_members: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    shapes = ((3, 2), (4,), ())
    parameters = [torch.zeros(n_members, *shape) for shape in (*shapes, (2,))]
    for parameter in parameters[:-1]:
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    singles = [[torch.zeros(shape) for shape in shapes] for _ in range(n_members)]
    for number, single in enumerate(singles):
        for one, parameter in zip(single, parameters, strict=False):
            assert parameter.grad is not None
            one.grad = parameter.grad[number].clone()
        nn.utils.clip_grad_norm_(single, limit)
    clip_each(parameters, limit)
    assert parameters[-1].grad is None  # what the loss does not depend on
    for number, single in enumerate(singles):
        for one, parameter in zip(single, parameters, strict=False):
            assert one.grad is not None
            assert parameter.grad is not None
            torch.testing.assert_close(parameter.grad[number], one.grad, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("loss", ["mae", "mse", "robust_l1", "robust_l2"])
def test_a_loss_on_complete_labels_is_the_same_to_the_bit(loss: str) -> None:
    generator = torch.Generator().manual_seed(1)
    output, target = torch.randn(9, 4, generator=generator), torch.randn(9, 2, generator=generator)
    output = output if loss.startswith("robust") else output[:, :2]
    one, other = evaluate(loss, output, target), evaluate(loss, output, target, complete=True)
    assert torch.equal(one.loss, other.loss)
    assert torch.equal(one.error, other.error)
    assert int(one.n_labels) == int(other.n_labels) == 18


def test_only_elemnet_and_no_early_stopping() -> None:
    described = {"name": "elemnet", "parameters": {"n_features": 5}}
    assert can_train_together(described, SMALL)
    assert not can_train_together({"name": "attention"}, SMALL)
    assert not can_train_together(described, TrainingParameters(patience=3))


class Branching(nn.Module):
    """Decides by its values."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(5, 1)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.layer(x)
        return output if float(output.sum()) > 0 else -output


def test_what_cannot_be_stacked_is_refused(rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="Branching cannot be computed for several members at once: train them one"):
        together(rows, members(), build=Branching)
    with pytest.raises(InputError, match="ResidualNet keeps running statistics"):
        together(rows, members(), build=lambda: ResidualNet(5, widths=(16,)))
    monkeypatch.setattr(CompositionAttention, "fit_inputs", lambda self, x: None)  # its table takes seconds to read
    x = np.zeros((120, 86), np.float32)
    x[:, :5] = rows[0]
    with pytest.raises(InputError, match="CompositionAttention cannot be computed"):
        together((x, rows[1]), members(), build=lambda: CompositionAttention(86, 8, 1, 2, 1, 8))
    with pytest.raises(RuntimeError, match="shape"):  # the network's own error, not one of stacking
        together(rows, members(), build=lambda: ElemNet(4, (8, 1)))


def test_members_that_do_not_belong_together_are_refused(rows: Rows) -> None:
    with pytest.raises(InputError, match="no member"):
        together(rows, [])
    mixed = [*members(), TrainingParameters(**{**SMALL.to_dict(), "epochs": 9, "learning_rate": 0.1})]
    with pytest.raises(InputError, match="these by epochs, learning_rate"):
        together(rows, mixed)
    with pytest.raises(InputError, match="leave patience out"):
        together(rows, members(patience=2))
    with pytest.raises(InputError, match="3 members have 1 entries of resume"):
        together(rows, members(), resume=[None])
    with pytest.raises(InputError, match="3 members have 2 entries of on_epoch"):
        together(rows, members(), on_epoch=[None, None])
    states: list[list[TrainingState]] = []
    together(rows, members(), on_epoch=keep(states))
    with pytest.raises(InputError, match="other seed"):
        together(rows, members(), resume=[states[1][0], None, None])


def test_divergence_is_one_clear_error(rows: Rows) -> None:
    with pytest.raises(InputError, match="lower learning_rate"):
        together(rows, members(learning_rate=1e30, weight_decay=0.0))
