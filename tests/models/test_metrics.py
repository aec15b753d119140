"""Error statistics against values computed by hand."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from models.errors import InputError
from models.metrics import per_element_errors, regression_metrics


def test_by_hand() -> None:
    truth, prediction = [1.0, 2.0, 0.0, -1.0], [1.5, 2.0, 0.5, -2.0]
    result = regression_metrics(truth, prediction)
    assert result["n"] == 4
    assert result["mae"] == pytest.approx(0.5)  # errors 0.5, 0, 0.5, -1
    assert result["rmse"] == pytest.approx(math.sqrt(1.5 / 4))
    assert result["bias"] == pytest.approx(0.0)
    assert result["r2"] == pytest.approx(1 - 1.5 / 5.0)  # squares about the mean 0.5: 0.25 + 2.25 + 0.25 + 2.25
    assert result["mape"] == pytest.approx(100 * (0.5 + 0.0 + 1.0) / 3)
    assert result["n_mape"] == 3
    assert result["p50"] == pytest.approx(0.5)
    assert result["p75"] == pytest.approx(0.625)  # between 0.5 and 1
    assert result["max"] == pytest.approx(1.0)
    json.dumps(result)


def test_what_is_undefined_is_none() -> None:
    result = regression_metrics([0.0, 0.0], [0.1, -0.1])
    assert result["r2"] is None
    assert result["mape"] is None
    assert result["n_mape"] == 0


@given(arrays(np.float64, st.integers(2, 30), elements=st.floats(-10, 10)), st.floats(-5, 5))
def test_a_constant_error_is_every_statistic(truth: np.ndarray, shift: float) -> None:
    result = regression_metrics(truth, truth + shift)
    for name in ("mae", "rmse", "p50", "p99", "max"):
        assert result[name] == pytest.approx(abs(shift), abs=1e-12)
    assert result["bias"] == pytest.approx(shift, abs=1e-12)


def test_per_element() -> None:
    fractions = np.array([[0.5, 0.5, 0.0], [0.0, 0.25, 0.75], [0.0, 1.0, 0.0]])
    table = per_element_errors(fractions, [0.0, 0.0, 0.0], [0.2, -0.4, 0.3], elements=("Li", "O", "F"))
    assert table["element"].tolist() == ["Li", "O", "F"]
    assert table["n"].tolist() == [1, 3, 1]
    assert table["mae"].tolist() == pytest.approx([0.2, 0.3, 0.4])
    assert table["bias"].tolist() == pytest.approx([0.2, 0.1 / 3, -0.4])


def test_per_element_leaves_out_absent_elements() -> None:
    fractions = np.zeros((1, 86))
    fractions[0, [0, 5]] = 0.5
    assert per_element_errors(fractions, [1.0], [2.0])["element"].tolist() == ["H", "N"]
    with pytest.raises(InputError, match=r"\(1, 86\)"):
        per_element_errors(fractions[:, :5], [1.0], [2.0])


@pytest.mark.parametrize(
    ("truth", "prediction", "message"),
    [([], [], "No rows"), ([1.0], [1.0, 2.0], "one length"), ([[1.0]], [[1.0]], "vectors"), ([np.nan], [1.0], "NaN")],
)
def test_unusable_input_is_refused(truth: list[float], prediction: list[float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        regression_metrics(truth, prediction)
