"""Elastic tensors from strained cells, and the isotropic averages of one.

Voigt order xx, yy, zz, yz, xz, xy; shear strains are engineering strains (gamma = 2 epsilon). Tensors are in the
Cartesian frame of the structure they were made from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Structure

from models.relaxation import GPA_PER_EV_A3, Evaluate, RelaxSettings, relax_structures

Array = NDArray[np.float64]

VOIGT: tuple[tuple[int, int], ...] = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
AMPLITUDES: tuple[float, ...] = (-0.01, -0.005, 0.005, 0.01)
ION_SETTINGS = RelaxSettings(force_tolerance=0.01, max_steps=60, fixed_cell=True)
"""Ions are relaxed five times tighter than for an energy: their forces enter the stress to first order."""


@dataclass(frozen=True)
class ElasticResponse:
    """An elastic tensor and how it came about.

    Attributes
    ----------
    tensor : (6, 6) array
        GPa, symmetrised.
    asymmetry : float
        Largest difference between the tensor and its transpose before that, GPa.
    residual : float
        Largest distance of a stress from its straight line, GPa.
    converged : bool
        Whether the ions came to rest in all strained cells.
    n_evaluations : int
    """

    tensor: Array
    asymmetry: float
    residual: float
    converged: bool
    n_evaluations: int


def strain_tensor(direction: int, amplitude: float) -> Array:
    """(3, 3) symmetric strain of one Voigt direction (0 to 5), dimensionless."""
    i, j = VOIGT[direction]
    strain = np.zeros((3, 3))
    strain[i, j] += amplitude / 2.0
    strain[j, i] += amplitude / 2.0
    return strain


def strained_cells(structure: Structure, amplitudes: Sequence[float] = AMPLITUDES) -> list[Structure]:
    """Strain the structure in every direction and amplitude, direction-major; fractional positions kept."""
    cells = []
    for direction in range(6):
        for amplitude in amplitudes:
            matrix = structure.lattice.matrix @ (np.eye(3) + strain_tensor(direction, amplitude))
            cells.append(Structure(matrix, structure.species, structure.frac_coords))
    return cells


def fit_tensor(stresses: Array, amplitudes: Sequence[float] = AMPLITUDES) -> tuple[Array, float, float]:
    """Straight lines through the stresses.

    Parameters
    ----------
    stresses : (6, n_amplitudes, 6) array
        Stress (GPa, tension positive, Voigt) for each strain direction and amplitude.
    amplitudes : sequence of float

    Returns
    -------
    tensor : (6, 6) array
        Symmetrised slopes, GPa.
    asymmetry, residual : float
        As in `ElasticResponse`.
    """
    design = np.column_stack([np.asarray(amplitudes), np.ones(len(amplitudes))])
    slopes = np.zeros((6, 6))
    residual = 0.0
    for direction in range(6):
        solution = np.linalg.lstsq(design, stresses[direction], rcond=None)[0]
        slopes[:, direction] = solution[0]
        residual = max(residual, float(np.abs(design @ solution - stresses[direction]).max()))
    asymmetry = float(np.abs(slopes - slopes.T).max())
    return 0.5 * (slopes + slopes.T), asymmetry, residual


def elastic_response(
    structure: Structure,
    evaluate: Evaluate,
    *,
    amplitudes: Sequence[float] = AMPLITUDES,
    settings: RelaxSettings = ION_SETTINGS,
) -> ElasticResponse:
    """Elastic tensor of a relaxed crystal with its ions at rest in every strained cell.

    Parameters
    ----------
    structure : Structure
        Relaxed; a small residual stress cancels, since slopes are fitted with an intercept.
    evaluate : Evaluate
    amplitudes : sequence of float
        Strains per direction, dimensionless.
    settings : RelaxSettings
        For the ions; the cell must be fixed.

    Returns
    -------
    ElasticResponse
    """
    relaxed = relax_structures(strained_cells(structure, amplitudes), evaluate, settings)
    stresses = np.array([[result.stress[i, j] for i, j in VOIGT] for result in relaxed]) * GPA_PER_EV_A3
    tensor, asymmetry, residual = fit_tensor(stresses.reshape(6, len(amplitudes), 6), amplitudes)
    return ElasticResponse(
        tensor,
        asymmetry,
        residual,
        all(result.converged for result in relaxed),
        sum(result.n_evaluations for result in relaxed),
    )


def is_positive_definite(tensor: Array, smallest: float = 0.1) -> bool:
    """Whether every eigenvalue of the (6, 6) tensor exceeds ``smallest`` GPa: Born's criterion of stability."""
    return bool(np.all(np.isfinite(tensor)) and np.linalg.eigvalsh(tensor).min() > smallest)


def voigt_reuss_hill(tensor: Array) -> tuple[float, float]:
    """Bulk and shear modulus of a polycrystal (Hill, Proc. Phys. Soc. A 65, 349, 1952).

    Parameters
    ----------
    tensor : (6, 6) array
        Positive definite, GPa.

    Returns
    -------
    bulk, shear : float
        Means of the Voigt and Reuss bounds, GPa.
    """
    c, s = tensor, np.linalg.inv(tensor)
    normal_c, cross_c, shear_c = np.trace(c[:3, :3]), c[0, 1] + c[0, 2] + c[1, 2], np.trace(c[3:, 3:])
    normal_s, cross_s, shear_s = np.trace(s[:3, :3]), s[0, 1] + s[0, 2] + s[1, 2], np.trace(s[3:, 3:])
    bulk_voigt, bulk_reuss = (normal_c + 2 * cross_c) / 9, 1 / (normal_s + 2 * cross_s)
    shear_voigt = (normal_c - cross_c + 3 * shear_c) / 15
    shear_reuss = 15 / (4 * (normal_s - cross_s) + 3 * shear_s)
    return float(bulk_voigt + bulk_reuss) / 2, float(shear_voigt + shear_reuss) / 2
