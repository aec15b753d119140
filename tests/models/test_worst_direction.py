"""The least stable directions of an interface, against a search of its own."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.anisotropic_stability import LITHIUM_CRYSTAL, directions_in_plane, interface_stability, plane_normal
from models.elasticity import isotropic_tensor
from models.electrodeposition import LITHIUM, stability_parameter
from models.stroh import surface_response
from models.worst_direction import finer_worst_direction, waves_at, worst_chi_by_scale, worst_direction
from stiffness import random_rotation, random_stiffness

X, Y, Z = np.eye(3)
FACET = np.array([2.0, 1.0, 1.0])
ELECTRODE = isotropic_tensor(
    2 * LITHIUM.shear_modulus * (1 + LITHIUM.poisson_ratio) / (3 * (1 - 2 * LITHIUM.poisson_ratio)),
    LITHIUM.shear_modulus,
)


@given(st.integers(0, 1000))
@settings(max_examples=30)
def test_it_is_that_of_a_search_at_random(seed: int) -> None:
    """Within a thousandth of the range of chi, and the directions that are named have the chi that is stated."""
    tensor, normal = random_stiffness(seed), random_rotation(seed)[1]
    (below,), (above,) = waves_at(LITHIUM_CRYSTAL, FACET, "below"), waves_at(tensor, normal, "above")
    coarse = worst_direction(below, above, 0.1, 0.54)
    assert coarse.by_direction.max() == coarse.chi
    said = finer_worst_direction(coarse, (LITHIUM_CRYSTAL, FACET), (tensor, normal), 0.1, 0.54)
    assert said.chi >= coarse.chi
    named = interface_stability(
        surface_response(LITHIUM_CRYSTAL, said.electrode_wave, FACET, "below"),
        surface_response(tensor, said.electrolyte_wave, normal, "above"),
        0.1,
        0.54,
    )
    assert named.chi[0] == pytest.approx(said.chi, rel=1e-9)
    angles = np.random.default_rng(seed).uniform(0, np.pi, (2, 500, 1))
    axes = [directions_in_plane(plane, 2) for plane in (FACET, normal)]
    at_random = [np.cos(a) * first + np.sin(a) * second for a, (first, second) in zip(angles, axes, strict=True)]
    chi = interface_stability(
        surface_response(LITHIUM_CRYSTAL, at_random[0], FACET, "below"),
        surface_response(tensor, at_random[1], normal, "above"),
        0.1,
        0.54,
    ).chi
    assert chi.max() <= said.chi + 0.001 * (said.chi - said.best)


def test_of_isotropic_bodies_any_direction_is_the_worst() -> None:
    (below,), (above,) = waves_at(ELECTRODE, Y, "below", 4), waves_at(isotropic_tensor(6, 3), Z, "above", 4)
    said = worst_direction(below, above, 0.0553387, 0.556, LITHIUM)
    assert said.chi == pytest.approx(0.6194, abs=5e-5)  # Li2WS4
    assert said.best == pytest.approx(said.chi, rel=1e-9)


def test_a_softer_electrolyte_is_another_electrolyte() -> None:
    (below,), (above,) = waves_at(ELECTRODE, Y, "below", 2), waves_at(isotropic_tensor(6, 3), Z, "above", 2)
    scales = np.array([0.25, 0.5, 1.0, 4.0])
    said = worst_chi_by_scale(below, above, 0.0553387, 0.556, scales, LITHIUM)
    np.testing.assert_allclose(said, stability_parameter(6 * scales, 3 * scales, 0.0553387).chi, rtol=1e-9)
    assert (said < 0).tolist() == [True, True, False, False]


def test_equivalent_planes_of_a_cubic_crystal_are_alike() -> None:
    (below,) = waves_at(LITHIUM_CRYSTAL, Y, "below")
    normals = [plane_normal(2 * np.eye(3), hkl) for hkl in ((1, 1, 0), (0, 1, 1), (1, 0, -1))]
    said = [worst_direction(below, above, 0.26, 0.46).chi for above in waves_at(LITHIUM_CRYSTAL, normals, "above")]
    assert said == pytest.approx([said[0]] * 3, rel=1e-3)


def test_a_crystal_that_is_not_stable_has_no_chi() -> None:
    (below,), (above,) = waves_at(ELECTRODE, Y, "below", 2), waves_at(-random_stiffness(0), Y, "above", 2)
    said = worst_direction(below, above, 0.1, 0.5)
    assert np.isnan([said.chi, said.best]).all()
    assert np.isnan(worst_chi_by_scale(below, above, 0.1, 0.5, [1.0])).all()
