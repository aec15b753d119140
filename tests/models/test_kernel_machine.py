"""Support-vector regression as arrays: scikit-learn's predictions, and arrays that do not fit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR

from models.errors import InputError
from models.kernel_machine import KernelMachine, fit_kernel_machine


def rows(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 5))
    return x, 20.0 + 3.0 * x[:, 0] * x[:, 1] + np.sin(3 * x[:, 2])


@given(st.integers(2, 120), st.integers(0, 5), st.floats(0.3, 1.0))
@settings(max_examples=20)
def test_predictions_are_scikit_learns(n: int, seed: int, share: float) -> None:
    """Those of a fit to the rows that the seed draws."""
    x, y = rows(n, seed)
    drawn = np.random.default_rng(seed).permutation(n)[: int(np.ceil(share * n))]
    assume(len(drawn) >= 2)
    spread, centre = y[drawn].std(), y[drawn].mean()
    oracle = make_pipeline(StandardScaler(), SVR(C=10.0, epsilon=0.07, gamma=1 / 15))
    oracle.fit(x[drawn], (y[drawn] - centre) / spread)
    others = np.concatenate([x, rows(30, 77)[0]])
    said = fit_kernel_machine(x, y, share=share, seed=seed).predict(others)
    assert said == pytest.approx(oracle.predict(others) * spread + centre, abs=1e-6)


def test_two_rows_by_hand() -> None:
    """Both are kept, with opposite weights, and each misses its target by the tolerance: a tenth of the deviation 2."""
    machine = fit_kernel_machine(
        np.array([[0.0], [1.0]]), np.array([3.0, 7.0]), share=1.0, width=2.0, tolerance=0.1, cost=1e6
    )
    assert machine.intercept == pytest.approx(5.0)
    assert machine.gamma.tolist() == [0.5]
    # columns at -1 and 1: the kernel is exp(-0.5 * 4) between them
    weight = 2.0 * 0.9 / (1.0 - np.exp(-2.0))
    assert np.sort(machine.weights) == pytest.approx([-weight, weight], rel=1e-3)
    assert machine.predict(np.array([[0.0], [0.5], [1.0]])) == pytest.approx([3.2, 5.0, 6.8], abs=1e-3)


def test_large_tables_are_drawn_from() -> None:
    x, y = rows(90)
    assert len(fit_kernel_machine(x, y, max_rows=10, tolerance=0.0).support) == 10


def test_what_was_constant_counts_for_nothing() -> None:
    """Also where it is only constant to the rounding of fp32, and whatever it is later."""
    x, y = rows(60)
    noise = np.random.default_rng(5).normal(size=60)
    more = np.column_stack([x, np.full(60, 3000.0), 2.5 * (1.0 + 1e-7 * noise)])
    machine = fit_kernel_machine(more, y, width=5 / 7 * 3.0)
    plain = fit_kernel_machine(x, y)
    assert machine.gamma == pytest.approx(plain.gamma)
    later = np.column_stack([x, np.full(60, 17.0), np.full(60, 9.0)])
    assert machine.predict(later) == pytest.approx(plain.predict(x), abs=1e-9)


def test_arrays_there_and_back() -> None:
    x, y = rows(60)
    machine = fit_kernel_machine(x, y)
    stored = load(save(machine.to_arrays("k.")))
    back = KernelMachine.from_arrays(stored, "k.")
    assert back.predict(x).tolist() == machine.predict(x).tolist()
    assert back.predict(x[:0]).shape == (0,)
    with pytest.raises(InputError, match="lacks the arrays mean"):
        KernelMachine.from_arrays(stored)
    with pytest.raises(InputError, match="fitted to 5 columns"):
        back.predict(x[:, :4])
    for name, value in (
        ("weights", machine.weights[1:]), ("scale", 0 * machine.scale), ("gamma", machine.mean),
        ("gamma", -machine.gamma), ("support", np.nan * machine.support), ("mean", machine.support),
    ):  # fmt: skip
        with pytest.raises(InputError, match="do not fit each other"):
            KernelMachine.from_arrays(stored | {f"k.{name}": value}, "k.")


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.full((3, 1), np.nan), np.arange(3.0), "finite"),
        (np.zeros((3, 1)), np.ones(3), "constant"),
        (np.zeros((0, 1)), np.zeros(0), "0 rows"),
    ],
)
def test_what_cannot_be_learnt(x: np.ndarray, y: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        fit_kernel_machine(x, y)
