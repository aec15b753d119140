"""Interfaces of crystals: which are called stable, and what that needs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from models.crystal_stability import (
    INTERFACE_COLUMNS,
    CrystalElectrode,
    InterfaceParameters,
    crystal_reason,
    crystal_stability,
    planes,
)
from models.elasticity import isotropic_tensor
from models.electrodeposition import LITHIUM, stability_parameter
from models.errors import InputError
from models.tensor_frame import OrientedTensor, rotate_tensor

CUBE = OrientedTensor("stated", 4.0 * np.eye(3), 0.0)
ISOTROPIC_LITHIUM = CrystalElectrode(
    isotropic_tensor(
        2 * LITHIUM.shear_modulus * (1 + LITHIUM.poisson_ratio) / (3 * (1 - 2 * LITHIUM.poisson_ratio)),
        LITHIUM.shear_modulus,
    ),
    {(1, 0, 0): LITHIUM.surface_energy},
    LITHIUM,
)


def test_planes() -> None:
    assert len(planes(1)) == 13
    assert (1, 0, 0) in planes(1)
    assert (-1, 0, 0) not in planes(1)
    assert (2, 0, 0) not in planes(2)
    assert len(planes(2)) == 49


def test_an_isotropic_pair_is_the_closed_form_on_every_plane() -> None:
    """Li2WS4's moduli: chi 0.6194, and stable from G = 2 GPa down."""
    table = crystal_stability(isotropic_tensor(6, 3), [CUBE], 0.0553387, ISOTROPIC_LITHIUM)
    assert tuple(table.columns) == INTERFACE_COLUMNS
    assert len(table) == 13
    np.testing.assert_allclose(table["chi"], 0.61937, atol=1e-5)
    np.testing.assert_allclose(table["chi_best_direction"], table["chi"], rtol=1e-9)
    assert not table["stable"].any()
    softer = crystal_stability(isotropic_tensor(4, 2), [CUBE], 0.03, ISOTROPIC_LITHIUM)
    np.testing.assert_allclose(softer["chi"], stability_parameter(4, 2, 0.03).chi, rtol=1e-6)
    assert softer["stable"].all()


def test_probability_is_counted_over_stiffnesses() -> None:
    """Zero error: a claim or none. An error: the share of stiffnesses below the one at which chi changes sign."""
    exact = InterfaceParameters(log10_stiffness_std=0.0, n_draws=4)
    table = crystal_stability(isotropic_tensor(4, 2), [CUBE], 0.03, ISOTROPIC_LITHIUM, exact)
    assert (table["probability_stable"] == 1).all()
    low, high = 1.0, 2.0  # the factor at which chi is zero, from the closed form
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if stability_parameter(4 * middle, 2 * middle, 0.03).chi < 0 else (low, middle)
    std = float(np.log10(low))  # one standard deviation away: 84 %, which is no claim
    unsure = InterfaceParameters(log10_stiffness_std=std, n_draws=1000)
    table = crystal_stability(isotropic_tensor(4, 2), [CUBE], 0.03, ISOTROPIC_LITHIUM, unsure)
    np.testing.assert_allclose(table["probability_stable"], 0.8413, atol=1e-3)
    assert (table["chi"] < 0).all()
    assert not table["stable"].any()


def test_a_claim_has_to_hold_in_every_frame() -> None:
    """Soft across its layers: in one frame they are (001), in the other (100)."""
    layered = isotropic_tensor(30, 20)
    layered[2, 2], layered[:2, 2], layered[2, :2] = 2.0, 0.2, 0.2
    layered[3, 3] = layered[4, 4] = 0.8
    swap = np.array([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]])
    one = crystal_stability(layered, [CUBE], 0.05)
    other = OrientedTensor("other", CUBE.lattice @ swap.T, 0.0)
    both = crystal_stability(layered, [CUBE, other], 0.05)
    assert set(one["frame"]) == {"stated"}
    assert set(both["frame"]) == {"stated+other"}
    assert len(both) == len(one)
    turned = crystal_stability(layered, [other], 0.05)
    np.testing.assert_allclose(both["chi"], np.maximum(one["chi"], turned["chi"]), rtol=1e-9)
    assert (both["stable"] == (one["stable"] & turned["stable"])).all()
    on = {plane: part["chi"].min() for plane, part in one.groupby("plane")}
    assert on["(0 0 1)"] < on["(1 0 0)"]
    same = crystal_stability(rotate_tensor(layered, swap), [other], 0.05)
    np.testing.assert_allclose(same["chi"], one["chi"], rtol=0.02)  # the same crystal, seen from elsewhere


@pytest.mark.parametrize(
    ("tensor", "ratio", "said"),
    [
        (-isotropic_tensor(6, 3), 0.1, "not positive definite"),
        (np.diag([5.0, 5, 5, 1, 1, 0]), 0.1, "as it is rounded"),
        (isotropic_tensor(6, 3), 0.0, "volume ratio 0"),
        (isotropic_tensor(6, 3), float("nan"), "volume ratio nan"),
    ],
)
def test_crystals_that_cannot_be_judged(tensor: np.ndarray, ratio: float, said: str) -> None:
    assert said in str(crystal_reason(tensor, ratio))
    with pytest.raises(InputError, match=said):
        crystal_stability(tensor, [CUBE], ratio)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"max_index": 0}, "max_index"),
        ({"log10_stiffness_std": -1.0}, "log10_stiffness_std"),
        ({"min_probability": 0.0}, "min_probability"),
        ({"n_draws": 0}, "n_draws"),
        ({"convention": "usual"}, "choose worst_direction or published"),
    ],
)
def test_settings_of_no_use(settings: dict[str, float], said: str) -> None:
    with pytest.raises(InputError, match=said):
        InterfaceParameters(**settings)  # type: ignore[arg-type]


def test_the_published_convention_is_the_worst_direction_of_an_isotropic_crystal() -> None:
    """On isotropic media any frame and any wave give the same; the convention calls nothing stable."""
    constants = replace(LITHIUM, wavenumber=3e8, charge=2)
    metal = CrystalElectrode(isotropic_tensor(11.0, 3.4), {(1, 0, 0): 0.4, (1, 1, 0): 0.7}, constants)
    cell = OrientedTensor("stated", np.diag([4.0, 5.0, 7.0]), 0.0)
    tensor = isotropic_tensor(30.0, 12.0)
    ours = crystal_stability(tensor, [cell], 0.2, metal).groupby("facet")["chi"].max()
    theirs = crystal_stability(tensor, [cell], 0.2, metal, InterfaceParameters(convention="published"))
    assert list(theirs.columns) == list(INTERFACE_COLUMNS)
    assert len(theirs) == 2 * 7
    assert theirs["plane"].iloc[-1] == "[1 1 1]"
    np.testing.assert_allclose(theirs["chi"], ours[theirs["facet"]].to_numpy(), rtol=1e-9)
    assert theirs["stable"].isna().all()


@pytest.mark.reference_data
def test_the_crystals_that_the_published_screen_found(reference_data: Path) -> None:
    """Its four stable electrolytes keep a stable interface at any twist and in any direction; stiff salts have none."""
    rows = pd.read_parquet(reference_data / "electrodeposition_tensors.parquet").set_index("material_id")
    stable = {}
    for name in ("mp-867695", "mp-753195", "mp-675926", "mp-23856", "mp-1138"):
        cell = OrientedTensor("stated", np.array(json.loads(rows.at[name, "conventional_lattice"])), 0.0)
        tensor = np.array(json.loads(rows.at[name, "elastic_tensor"]))
        stable[name] = crystal_stability(tensor, [cell], float(rows.at[name, "volume_ratio"]))["stable"].any()
    assert stable == {name: name != "mp-1138" for name in stable}
