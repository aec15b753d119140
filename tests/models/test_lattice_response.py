"""Elastic tensors: hand-computed averages and an analytic potential."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from cubic_crystals import copper
from pymatgen.core import Lattice, Structure

from models.lattice_response import (
    AMPLITUDES,
    VOIGT,
    elastic_response,
    fit_tensor,
    is_positive_definite,
    strain_tensor,
    strained_cells,
    voigt_reuss_hill,
)
from models.relaxation import GPA_PER_EV_A3, RelaxSettings, Response, relax_structures

_spec = importlib.util.spec_from_file_location("toy_potential", Path(__file__).with_name("toy_potential.py"))
assert _spec is not None
assert _spec.loader is not None
toy = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(toy)

_TRICLINIC = np.array(
    [
        [120.0, 40.0, 35.0, 3.0, -2.0, 1.0],
        [40.0, 110.0, 30.0, 1.0, 4.0, -3.0],
        [35.0, 30.0, 90.0, -1.0, 2.0, 2.0],
        [3.0, 1.0, -1.0, 30.0, 1.0, 0.5],
        [-2.0, 4.0, 2.0, 1.0, 35.0, -1.0],
        [1.0, -3.0, 2.0, 0.5, -1.0, 40.0],
    ]
)


def _linear(tensor: np.ndarray, reference: Structure):  # type: ignore[no-untyped-def]
    """A crystal whose stress is exactly ``tensor`` (GPa) times its strain; no forces."""

    def evaluate(structures: Sequence[Structure]) -> list[Response]:
        responses = []
        for structure in structures:
            strain = np.linalg.inv(reference.lattice.matrix) @ structure.lattice.matrix - np.eye(3)
            six = np.array([strain[i, j] * (1 if i == j else 2) for i, j in VOIGT])
            stress = np.zeros((3, 3))
            for (i, j), value in zip(VOIGT, tensor @ six / GPA_PER_EV_A3, strict=True):
                stress[i, j] = stress[j, i] = value
            responses.append(Response(0.0, np.zeros((len(structure), 3)), stress))
        return responses

    return evaluate


def test_twenty_four_strained_cells() -> None:
    crystal = Structure(Lattice.cubic(4.0), ["Cu"], [[0, 0, 0]])
    cells = strained_cells(crystal)
    assert len(cells) == 24
    assert cells[0].lattice.a == pytest.approx(4.0 * 0.99)
    np.testing.assert_allclose(strain_tensor(3, 0.01), [[0, 0, 0], [0, 0, 0.005], [0, 0.005, 0]])


def test_linear_crystal_gives_its_tensor_back() -> None:
    crystal = Structure(Lattice.from_parameters(4, 5, 6, 80, 95, 100), ["Cu"], [[0, 0, 0]])
    response = elastic_response(crystal, _linear(_TRICLINIC, crystal))
    np.testing.assert_allclose(response.tensor, _TRICLINIC, atol=1e-8)
    assert response.converged
    assert response.n_evaluations == 24
    assert response.asymmetry < 1e-8


def test_residual_stress_does_not_change_the_slope() -> None:
    stresses = np.zeros((6, len(AMPLITUDES), 6))
    for direction in range(6):
        stresses[direction] = 0.4 + np.outer(AMPLITUDES, _TRICLINIC[:, direction])
    tensor, asymmetry, residual = fit_tensor(stresses)
    np.testing.assert_allclose(tensor, _TRICLINIC, atol=1e-10)
    assert max(asymmetry, residual) < 1e-10


def test_pair_potential_obeys_cauchy_and_matches_energy_curvature() -> None:
    start = copper(3.6)
    settings = RelaxSettings(force_tolerance=1e-4, stress_tolerance=1e-3, max_steps=100)
    crystal = relax_structures([start], toy.evaluate, settings)[0].structure
    tensor = elastic_response(crystal, toy.evaluate).tensor
    assert tensor[0, 1] == pytest.approx(tensor[3, 3], rel=0.01)  # Cauchy relation at zero pressure
    energies = []
    for strain in (-0.01, 0.0, 0.01):
        cell = Structure(crystal.lattice.matrix * (1 + strain), crystal.species, crystal.frac_coords)
        energies.append(toy.evaluate([cell])[0].energy)
    curvature = (energies[0] - 2 * energies[1] + energies[2]) / 0.01**2
    bulk = curvature / 9 / crystal.volume * GPA_PER_EV_A3
    assert voigt_reuss_hill(tensor)[0] == pytest.approx(bulk, rel=0.03)


def test_averages_of_a_cubic_crystal_by_hand() -> None:
    # C11 = 100, C12 = 50, C44 = 40: K = 200/3; G_V = (50 + 120)/5 = 34; G_R = 5*50*40/(4*40 + 3*50) = 1000/31.
    tensor = np.diag([100.0, 100, 100, 40, 40, 40])
    tensor[:3, :3] += 50 * (1 - np.eye(3))
    bulk, shear = voigt_reuss_hill(tensor)
    assert bulk == pytest.approx(200 / 3)
    assert shear == pytest.approx((34 + 1000 / 31) / 2)


def test_averages_agree_with_pymatgen() -> None:
    from pymatgen.analysis.elasticity import ElasticTensor

    other = ElasticTensor.from_voigt(_TRICLINIC)
    bulk, shear = voigt_reuss_hill(_TRICLINIC)
    assert bulk == pytest.approx(other.k_vrh)
    assert shear == pytest.approx(other.g_vrh)


def test_positive_definite() -> None:
    assert is_positive_definite(_TRICLINIC)
    assert not is_positive_definite(_TRICLINIC - 40 * np.eye(6))
    assert not is_positive_definite(np.full((6, 6), np.nan))
