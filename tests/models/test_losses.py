"""Losses against densities of torch, hand-computed values and where their minima lie."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import Laplace, Normal

from models.errors import InputError
from models.losses import LOSSES, MAX_LOG_SCALE, ROBUST, evaluate, outputs_per_target, split_outputs

NAN = math.nan

numbers = st.floats(-4, 4, width=32)


def column(*values: float) -> torch.Tensor:
    return torch.tensor(values)[:, None]


def test_errors_by_hand() -> None:
    output, target = column(1.0, 2.0, -1.0), column(1.5, 2.0, 1.0)
    mae, mse = (evaluate(loss, output, target) for loss in ("mae", "mse"))
    assert mae.loss.item() == pytest.approx((0.5 + 0.0 + 2.0) / 3)
    assert mse.loss.item() == pytest.approx((0.25 + 0.0 + 4.0) / 3)
    assert mae.error.item() == mse.error.item() == pytest.approx(2.5 / 3)
    assert mae.n_labels.item() == 3


@given(st.lists(st.tuples(numbers, numbers, st.floats(-3, 3, width=32)), min_size=1, max_size=8))
def test_robust_losses_are_densities_but_for_a_constant(rows: list[tuple[float, float, float]]) -> None:
    mean, target, log_std = torch.tensor(rows, dtype=torch.float64).T
    std = log_std.exp()
    output = torch.stack([mean, log_std], dim=1).float()
    laplace = -Laplace(mean, std / math.sqrt(2.0)).log_prob(target).mean().item()
    normal = -Normal(mean, std).log_prob(target).mean().item()
    l1, l2 = (evaluate(loss, output, target.float()[:, None]) for loss in ROBUST)
    assert l1.loss.item() == pytest.approx(laplace - 0.5 * math.log(2.0), rel=1e-4, abs=1e-4)
    assert l2.loss.item() == pytest.approx(normal - 0.5 * math.log(2.0 * math.pi), rel=1e-4, abs=1e-4)
    assert l1.error.item() == l2.error.item() == pytest.approx((mean - target).abs().mean().item(), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize(("loss", "best"), [("robust_l1", math.sqrt(2.0) * 0.3), ("robust_l2", 0.3)])
def test_the_best_scale_is_the_size_of_the_error(loss: str, best: float) -> None:
    for log_scale, slope in ((math.log(best), 0.0), (math.log(best) + 0.1, 1.0), (math.log(best) - 0.1, -1.0)):
        output = torch.tensor([[1.3, log_scale]], requires_grad=True)
        evaluate(loss, output, column(1.0)).loss.backward()  # type: ignore[no-untyped-call]
        assert output.grad is not None
        if slope:
            assert output.grad[0, 1].item() * slope > 0.05
        else:
            assert output.grad[0, 1].item() == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize("loss", [loss for loss in LOSSES if loss != "cross_entropy"])
def test_missing_labels_count_for_nothing(loss: str) -> None:
    k = outputs_per_target(loss)
    output = torch.tensor([[0.5, -1.0, 0.1, 0.3], [2.0, 1.0, -0.2, 0.0], [0.0, 3.0, 0.4, 0.2]])[:, : 2 * k]
    output.requires_grad_()
    target = torch.tensor([[1.0, NAN], [NAN, 0.5], [0.0, 2.0]])
    both = evaluate(loss, output, target)
    assert both.n_labels.item() == 4
    both.loss.backward()  # type: ignore[no-untyped-call]
    assert output.grad is not None
    places = [[0, 1], [1, 0]] + ([[0, 3], [1, 2]] if k == 2 else [])
    assert all(output.grad[row, place] == 0.0 for row, place in places)
    assert torch.count_nonzero(output.grad) > 2
    # the mean over single labels, each of them alone
    single = [
        evaluate(loss, output.detach()[row : row + 1, place::2], target[row : row + 1, place : place + 1])
        for row, place in ((0, 0), (1, 1), (2, 0), (2, 1))
    ]
    assert both.loss.item() == pytest.approx(sum(one.loss.item() for one in single) / 4)
    assert both.error.item() == pytest.approx(sum(one.error.item() for one in single) / 4)


def test_a_batch_that_is_known_to_be_complete_is_not_looked_at() -> None:
    output, target = torch.tensor([[0.5, 0.1], [2.0, -0.2]]), column(1.0, 3.0)
    for loss in ROBUST:
        assert evaluate(loss, output, target, complete=True).loss == evaluate(loss, output, target).loss
    target[0] = NAN
    assert torch.isnan(evaluate("robust_l1", output, target, complete=True).loss)


def test_classes_by_hand() -> None:
    output = torch.tensor([[0.0, math.log(3.0)], [0.0, math.log(3.0)], [0.0, -math.log(4.0)]])
    target = torch.tensor([1, 0, 0])
    losses = [-math.log(0.75), -math.log(0.25), -math.log(0.8)]
    plain = evaluate("cross_entropy", output, target)
    assert plain.loss.item() == pytest.approx(sum(losses) / 3)
    assert plain.error.item() == pytest.approx(1 / 3)
    assert plain.n_labels.item() == 3
    weighted = evaluate("cross_entropy", output, target, torch.tensor([1.0, 4.0]))
    assert weighted.loss.item() == pytest.approx((4.0 * losses[0] + losses[1] + losses[2]) / 6.0)
    assert weighted.error.item() == plain.error.item()


@pytest.mark.parametrize("loss", ROBUST)
@pytest.mark.parametrize("scale", [1e3, -1e3])
def test_an_absurd_scale_stays_finite(loss: str, scale: float) -> None:
    output = torch.tensor([[0.0, scale]], requires_grad=True)
    value = evaluate(loss, output, column(5.0))
    value.loss.backward()  # type: ignore[no-untyped-call]
    assert output.grad is not None
    assert torch.isfinite(value.loss)
    assert torch.isfinite(output.grad).all()
    assert split_outputs(output, 1)[1].item() == math.copysign(MAX_LOG_SCALE, scale)  # type: ignore[union-attr]


def test_the_error_has_no_gradient() -> None:
    output = torch.zeros(2, 1, requires_grad=True)
    value = evaluate("mse", output, column(1.0, 2.0))
    assert value.loss.requires_grad
    assert not value.error.requires_grad


def test_outputs_are_split_in_halves() -> None:
    output = torch.arange(8.0).reshape(2, 4)
    mean, log_scale = split_outputs(output, 2)
    assert mean.tolist() == [[0.0, 1.0], [4.0, 5.0]]
    assert log_scale is not None
    assert log_scale.tolist() == [[2.0, 3.0], [6.0, 7.0]]
    assert split_outputs(output, 4)[1] is None
    assert [outputs_per_target(loss) for loss in LOSSES] == [1, 1, 2, 2, 1]


@pytest.mark.parametrize(("columns", "targets"), [(1, 2), (3, 1), (4, 3)])
def test_outputs_that_fit_no_target_are_refused(columns: int, targets: int) -> None:
    """Broadcasting would train a network on something else."""
    with pytest.raises(InputError, match=f"{columns} outputs does not fit {targets} target"):
        evaluate("mae", torch.zeros(2, columns), torch.zeros(2, targets))


@pytest.mark.parametrize("loss", ROBUST)
def test_a_robust_loss_needs_scales(loss: str) -> None:
    with pytest.raises(InputError, match=f"{loss} needs a network with two outputs"):
        evaluate(loss, torch.zeros(2, 3), torch.zeros(2, 3))
