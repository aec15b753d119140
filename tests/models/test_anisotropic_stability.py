"""Interfaces of anisotropic crystals: the closed form, the published values, and the worst direction."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.anisotropic_stability import (
    CRYSTAL_CONSTANTS,
    LITHIUM_CRYSTAL,
    LITHIUM_FACETS,
    directions_in_plane,
    interface_stability,
    plane_normal,
)
from models.elasticity import isotropic_tensor
from models.electrodeposition import LITHIUM, stability_parameter
from models.errors import InputError
from models.published_convention import in_published_frame, published_interfaces, smallest_rotation
from models.stroh import surface_response
from stiffness import random_rotation, random_stiffness, rotated

X, Y, Z = np.eye(3)
ELECTRODE = isotropic_tensor(
    2 * LITHIUM.shear_modulus * (1 + LITHIUM.poisson_ratio) / (3 * (1 - 2 * LITHIUM.poisson_ratio)),
    LITHIUM.shear_modulus,
)
UPRIGHT = (2.0 * np.eye(3)).tolist()


@given(st.floats(-1, 2), st.floats(-0.5, 0.45), st.floats(0.02, 3.0), st.integers(0, 1000))
@settings(max_examples=40)
def test_isotropic_tensors_give_the_closed_form(log_shear: float, nu: float, ratio: float, seed: int) -> None:
    """Whatever the directions."""
    shear = 10**log_shear
    bulk = 2 * shear * (1 + nu) / (3 * (1 - 2 * nu))
    wave, normal = random_rotation(seed)[:2]
    below = surface_response(ELECTRODE, X, Y, "below")
    above = surface_response(isotropic_tensor(bulk, shear), wave, normal, "above")
    said = interface_stability(below, above, ratio, LITHIUM.surface_energy, LITHIUM)
    expected = stability_parameter(bulk, shear, ratio)
    for name in ("surface", "deviatoric", "hydrostatic", "chi"):
        limit = 1e-8 * (abs(float(expected.deviatoric)) + abs(float(expected.hydrostatic)))
        assert getattr(said, name)[0] == pytest.approx(float(getattr(expected, name)), rel=1e-6, abs=limit)


def test_constants_of_lithium_are_those_of_the_reference() -> None:
    assert np.diag(LITHIUM_CRYSTAL).tolist() == [13.5] * 3 + [8.78] * 3
    assert LITHIUM_CRYSTAL[0, 1] == 11.44
    assert LITHIUM_FACETS == {(0, 1, 0): 0.46, (1, 1, 0): 0.50, (1, 1, 1): 0.54, (2, 1, 1): 0.54}
    assert replace(LITHIUM, molar_volume=1.30323e-5) == CRYSTAL_CONSTANTS
    with pytest.raises(ValueError, match="read-only"):
        LITHIUM_CRYSTAL[0, 0] = 1.0


@pytest.mark.reference_data
def test_the_published_values(reference_data: Path) -> None:
    """All of them to 1e-5 kJ/mol/nm in the convention of the published screen, signs included."""
    crystals = pd.read_parquet(reference_data / "electrodeposition_tensors.parquet").set_index("material_id")
    rows = pd.read_parquet(reference_data / "electrodeposition_anisotropic.parquet")
    said = {}
    for name in rows["material_id"].unique():
        crystal = crystals.loc[name]
        tensor, cell = (np.array(json.loads(crystal[key])) for key in ("elastic_tensor", "conventional_lattice"))
        table = published_interfaces(LITHIUM_CRYSTAL, LITHIUM_FACETS, tensor, cell, float(crystal["volume_ratio"]))
        for row in table.itertuples():
            surfaces = "-".join("".join(map(str, indices)) for indices in (row.facet, row.direction))
            said[name, surfaces] = row.chi
    found = np.array([said[key] for key in zip(rows["material_id"], rows["surfaces"], strict=True)])
    assert len(found) == len(said) == 6748
    assert np.abs(found - rows["chi"]).max() < 1e-5
    assert ((found < 0) == (rows["chi"] < 0)).all()


def test_the_published_frame_is_the_interface_where_b_lies_along_y() -> None:
    (wave_e, normal_e), (wave_s, normal_s) = in_published_frame(UPRIGHT, (1, 1, 0), (1, 1, 0))
    np.testing.assert_allclose(normal_e, [0.5**0.5, 0.5**0.5, 0], atol=1e-12)
    np.testing.assert_allclose(normal_s, normal_e, atol=1e-12)
    np.testing.assert_allclose(wave_e, wave_s, atol=1e-12)
    assert abs(wave_e @ normal_e) < 1e-12


def test_a_plane_is_no_lattice_direction() -> None:
    """In a hexagonal cell the normal of (100) is not a."""
    a, c = 3.0, 5.0
    cell = [[a, 0, 0], [-a / 2, a * 3**0.5 / 2, 0], [0, 0, c]]
    np.testing.assert_allclose(plane_normal(cell, (1, 0, 0)), [3**0.5 / 2, 0.5, 0], atol=1e-12)
    np.testing.assert_allclose(plane_normal(cell, (0, 0, 1)), Z, atol=1e-12)
    for hkl in ((1, 0, 0), (0, 1, 0), (1, 1, 1)):
        directions = directions_in_plane(plane_normal(cell, hkl), 5)
        np.testing.assert_allclose(directions @ plane_normal(cell, hkl), 0, atol=1e-12)
        np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1, rtol=1e-12)


@given(st.integers(0, 1000))
@settings(max_examples=20)
def test_smallest_rotation(seed: int) -> None:
    start, end = np.random.default_rng(seed).normal(size=(2, 3))
    turn = smallest_rotation(start, end)
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-9)
    np.testing.assert_allclose(turn @ start / np.linalg.norm(start), end / np.linalg.norm(end), atol=1e-9)
    angle = np.arccos(start @ end / np.linalg.norm(start) / np.linalg.norm(end))
    assert np.trace(turn) == pytest.approx(1 + 2 * np.cos(angle), abs=1e-9)


def test_turned_tensors_are_where_they_are_meant_to_be() -> None:
    """The helper of these tests, against a crystal whose axes change places."""
    turn = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    tensor = random_stiffness(3)
    assert rotated(tensor, turn)[1, 1] == pytest.approx(tensor[0, 0])
    assert rotated(tensor, turn)[2, 2] == pytest.approx(tensor[2, 2])
    assert rotated(tensor, turn)[5, 5] == pytest.approx(tensor[5, 5])


def test_input_of_no_use() -> None:
    with pytest.raises(InputError, match="three Miller indices"):
        plane_normal(UPRIGHT, (0, 0, 0))
    with pytest.raises(InputError, match="opposite"):
        smallest_rotation(X, -X)
    with pytest.raises(InputError, match="normal with a length"):
        directions_in_plane(np.zeros(3))
