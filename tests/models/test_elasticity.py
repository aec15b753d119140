"""Elastic tensors and isotropic moduli."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.elasticity import (
    instability_reason,
    is_positive_definite,
    isotropic_tensor,
    parse_tensor,
    poisson_ratio,
    pugh_ratio,
    rescaled_tensor,
    smallest_eigenvalue,
    voigt_reuss_hill,
)
from models.errors import InputError
from stiffness import random_rotation, random_stiffness, rotated

REFERENCE = Path(os.environ.get("ELEMSCREEN_REFERENCE_DATA", Path(__file__).parents[3] / "shared" / "data"))


def cubic(c11: float, c12: float, c44: float) -> np.ndarray:
    tensor = np.diag([c11] * 3 + [c44] * 3).astype(float)
    tensor[:3, :3] += c12 * (1 - np.eye(3))
    return tensor


def test_averages_of_cubic_lithium_by_hand():
    averages = voigt_reuss_hill(cubic(13.50, 11.44, 8.78))
    assert averages.bulk_vrh[0] == pytest.approx((13.50 + 2 * 11.44) / 3)
    assert averages.shear_voigt[0] == pytest.approx((13.50 - 11.44 + 3 * 8.78) / 5)
    assert averages.shear_reuss[0] == pytest.approx(5 * 2.06 * 8.78 / (4 * 8.78 + 3 * 2.06))
    assert averages.shear_reuss[0] < averages.shear_vrh[0] < averages.shear_voigt[0]


@given(st.floats(1, 500), st.floats(0.5, 300))
@settings(max_examples=50, deadline=None)
def test_isotropic_tensor_gives_back_its_moduli(bulk, shear):
    averages = voigt_reuss_hill(isotropic_tensor(bulk, shear))
    for name in ("bulk_voigt", "bulk_reuss", "bulk_vrh"):
        assert getattr(averages, name)[0] == pytest.approx(bulk, rel=1e-9)
    for name in ("shear_voigt", "shear_reuss", "shear_vrh"):
        assert getattr(averages, name)[0] == pytest.approx(shear, rel=1e-9)


def test_bad_tensors_give_nan_and_not_errors():
    stack = np.stack([np.eye(6), np.zeros((6, 6)), np.full((6, 6), np.nan)])
    averages = voigt_reuss_hill(stack)
    assert np.isfinite(averages.bulk_vrh).tolist() == [True, False, False]
    assert is_positive_definite(stack).tolist() == [True, False, False]
    assert np.isnan(smallest_eigenvalue(stack)).tolist() == [False, False, True]
    with pytest.raises(InputError, match="shape"):
        voigt_reuss_hill(np.eye(3))


def test_parse_tensor_reads_json_nested_and_flat():
    tensor = cubic(10, 5, 4)
    for value in (json.dumps(tensor.tolist()), tensor.tolist(), tensor, tensor.ravel(), tensor.ravel().tolist()):
        assert np.array_equal(parse_tensor(value), tensor)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("[[1, 2]", "cannot be read"),
        ("[[1, 2], [3, 4]]", "4 numbers"),
        (None, "cannot be read"),
        ([["a"] * 6] * 6, "cannot be read"),
        ((np.eye(6) * np.nan).tolist(), "not finite"),
        (np.triu(np.ones((6, 6))).tolist(), "not symmetric"),
    ],
)
def test_parse_tensor_refuses(value, message):
    with pytest.raises(InputError, match=message) as error:
        parse_tensor(value)
    assert "\n" not in str(error.value)


def test_poisson_and_pugh():
    assert poisson_ratio([70], [51]) == pytest.approx((210 - 102) / (420 + 102))
    assert pugh_ratio([70], [35]) == pytest.approx(2)
    assert np.isnan(poisson_ratio([-1, 0, np.nan, 5], [1, 1, 1, np.inf])).all()
    assert np.isnan(pugh_ratio([1, 1], [0, -2])).all()


def test_instability_allows_for_rounding_but_not_for_a_negative_diagonal():
    soft = np.diag([4.0, 32, 32, 3, 0, 0])
    assert instability_reason(soft) is None
    assert "negative diagonal" in instability_reason(json.dumps(np.diag([75.0, 75, 13, -0.0, -0.0, 26]).tolist()))
    assert "smallest eigenvalue -1 GPa" in instability_reason(cubic(20, 21, 9))
    assert instability_reason(cubic(20.5, 20.5001, 9.5)) is not None
    assert instability_reason(cubic(20.5, 10.25, 9.5)) is None
    assert instability_reason(None) is None
    assert instability_reason(float("nan")) is None
    assert "cannot be read" in instability_reason("no tensor")


@pytest.mark.reference_data
def test_stated_moduli_follow_from_stated_tensors():
    path = REFERENCE / "elastic_structures.parquet"
    if not path.exists():
        pytest.skip(f"reference data absent: {path}")
    table = pd.read_parquet(path, columns=["elastic_tensor", "bulk_modulus_vrh", "shear_modulus_vrh", "material_id"])
    tensors = np.stack([parse_tensor(text) for text in table["elastic_tensor"]])
    stable = is_positive_definite(tensors)
    assert (~stable).sum() == 78
    averages = voigt_reuss_hill(tensors[stable])
    # tensors and moduli are rounded to whole GPa each
    assert np.abs(averages.bulk_vrh - table["bulk_modulus_vrh"][stable]).quantile(0.99) < 1
    assert np.abs(averages.shear_vrh - table["shear_modulus_vrh"][stable]).quantile(0.99) < 1
    reason = dict(zip(table["material_id"], map(instability_reason, table["elastic_tensor"]), strict=True))
    assert reason["mp-867695"] is None
    assert reason["mp-753195"] is None
    assert "not positive definite" in reason["mp-625998"]


@given(st.integers(0, 1000), st.floats(0.2, 5.0), st.floats(0.2, 5.0))
@settings(max_examples=30)
def test_a_rescaled_crystal_has_rescaled_averages_and_its_symmetry(seed, bulk, shear):
    tensor = random_stiffness(seed)
    scaled = rescaled_tensor(tensor, bulk, shear)
    before, after = voigt_reuss_hill(tensor), voigt_reuss_hill(scaled)
    for name, factor in (("bulk", bulk), ("shear", shear)):
        for average in ("voigt", "reuss", "vrh"):
            old, new = (getattr(one, f"{name}_{average}")[0] for one in (before, after))
            assert new == pytest.approx(factor * old, rel=1e-9)
    assert is_positive_definite(scaled)[0]
    turn = random_rotation(seed)
    np.testing.assert_allclose(rotated(scaled, turn), rescaled_tensor(rotated(tensor, turn), bulk, shear), atol=1e-9)


def test_an_isotropic_medium_stays_one():
    np.testing.assert_allclose(
        rescaled_tensor(isotropic_tensor(30, 20), 2.0, 0.5), isotropic_tensor(60, 10), atol=1e-12
    )
    with pytest.raises(InputError, match="positive"):
        rescaled_tensor(isotropic_tensor(30, 20), 0.0, 1.0)
