"""The least stable directions of an interface between two crystals.

Which way a wave runs in either crystal is not known: a film of metal grows at any twist against the electrolyte, and a
surface is rough in all directions. The worst of all pairs of directions is what a claim of stability has to stand. A
half-space is solved once per direction; that its stress is proportional to its stiffness makes errors of the
stiffness free.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.anisotropic_stability import CRYSTAL_CONSTANTS, directions_in_plane, interface_factors
from models.electrodeposition import StabilityConstants
from models.stroh import ComplexArray, FloatArray, Side, surface_response

N_DIRECTIONS = 36
"""Directions of the wave in each crystal, 5 degrees apart."""
N_FINER = 11
"""Directions between the neighbours of the worst one, one degree apart."""


@dataclass(frozen=True)
class Waves:
    """A half-space under waves in all directions of its surface.

    Attributes
    ----------
    directions : ndarray, shape (m, 3)
        Of the waves, of length one, in the tensor's frame.
    stress : ndarray of complex, shape (m, 3, 2)
        sigma_12, sigma_22 and sigma_11 (rows) from u1 and u2, GPa per wavenumber and amplitude.
    """

    directions: FloatArray
    stress: ComplexArray


@dataclass(frozen=True)
class WorstDirection:
    """The least stable pair of directions of one interface.

    Attributes
    ----------
    chi : float
        Largest chi over all pairs, kJ/mol/nm.
    best : float
        Smallest chi over all pairs, kJ/mol/nm.
    electrolyte_wave, electrode_wave : ndarray, shape (3,)
        Directions of the worst wave in the frames of the tensors, of length one.
    by_direction : ndarray, shape (m,)
        Largest chi for each of the m directions of the wave in the electrolyte, kJ/mol/nm.
    """

    chi: float
    best: float
    electrolyte_wave: FloatArray
    electrode_wave: FloatArray
    by_direction: FloatArray


def waves_at(tensor: ArrayLike, normals: ArrayLike, side: Side, n: int = N_DIRECTIONS) -> list[Waves]:
    """Solve the surfaces of a crystal for waves in all directions.

    Parameters
    ----------
    tensor : array_like, shape (6, 6)
        Stiffness in Voigt order, GPa.
    normals : array_like, shape (p, 3)
        Of the surfaces, in the tensor's frame.
    side : str
        ``above`` for the electrolyte, ``below`` for the electrode.
    n : int
        Directions per surface, over half a turn.

    Returns
    -------
    list of Waves
        One per surface; NaN where the tensor is not positive definite.
    """
    given = np.atleast_2d(np.asarray(normals, dtype=np.float64))
    directions = np.concatenate([directions_in_plane(normal, n) for normal in given])
    every = _solved(tensor, directions, np.repeat(given, n, axis=0), side)
    return [Waves(directions[k : k + n], every.stress[k : k + n]) for k in range(0, len(directions), n)]


def worst_direction(
    electrode: Waves,
    electrolyte: Waves,
    volume_ratio: float,
    surface_energy: float,
    constants: StabilityConstants = CRYSTAL_CONSTANTS,
) -> WorstDirection:
    """Look for the least stable pair of directions.

    Parameters
    ----------
    electrode, electrolyte : Waves
        Below and above the interface.
    volume_ratio, surface_energy : float
        v and gamma [J/m^2] of the interface.
    constants : StabilityConstants
        As `models.anisotropic_stability.interface_stability`.

    Returns
    -------
    WorstDirection
        NaN where a tensor is not positive definite.
    """
    surface, deviatoric, hydrostatic = interface_factors(volume_ratio, surface_energy, constants)
    chi = surface + _chi_of_pairs(
        electrode.stress, electrolyte.stress, float(deviatoric), float(hydrostatic), np.ones(1)
    )
    each = chi[0]
    row, column = np.unravel_index(int(np.argmax(each)), each.shape)
    return WorstDirection(
        float(each[row, column]),
        float(each.min()),
        electrolyte.directions[row],
        electrode.directions[column],
        np.asarray(each.max(axis=1)),
    )


def finer_worst_direction(
    coarse: WorstDirection,
    electrode: tuple[ArrayLike, ArrayLike],
    electrolyte: tuple[ArrayLike, ArrayLike],
    volume_ratio: float,
    surface_energy: float,
    constants: StabilityConstants = CRYSTAL_CONSTANTS,
) -> WorstDirection:
    """Look again between the neighbours of the worst pair of directions, ten times as closely.

    Parameters
    ----------
    coarse : WorstDirection
        Found among `N_DIRECTIONS` directions of either crystal.
    electrode, electrolyte : tuple of array_like
        Stiffness (6, 6) and normal (3,) of the interface.
    volume_ratio, surface_energy, constants
        As `worst_direction`.

    Returns
    -------
    WorstDirection
        With the larger chi of both searches; ``best`` and ``by_direction`` are the coarse one's.
    """
    sides: tuple[Side, Side] = ("below", "above")
    near = [
        _solved(tensor, _fan(wave, normal), np.atleast_2d(np.asarray(normal, dtype=np.float64)), side)
        for (tensor, normal), wave, side in zip(
            (electrode, electrolyte), (coarse.electrode_wave, coarse.electrolyte_wave), sides, strict=True
        )
    ]
    fine = worst_direction(near[0], near[1], volume_ratio, surface_energy, constants)
    if not fine.chi > coarse.chi:
        return coarse
    return replace(fine, best=coarse.best, by_direction=coarse.by_direction)


def worst_chi_by_scale(
    electrode: Waves,
    electrolyte: Waves,
    volume_ratio: float,
    surface_energy: float,
    scales: ArrayLike,
    constants: StabilityConstants = CRYSTAL_CONSTANTS,
) -> FloatArray:
    """Say what the worst chi would be if the electrolyte were stiffer or softer as a whole.

    Parameters
    ----------
    electrode, electrolyte, volume_ratio, surface_energy, constants
        As `worst_direction`.
    scales : array_like, shape (s,)
        Factors of the electrolyte's stiffness.

    Returns
    -------
    ndarray, shape (s,)
        Largest chi over all pairs of directions, kJ/mol/nm.
    """
    surface, deviatoric, hydrostatic = interface_factors(volume_ratio, surface_energy, constants)
    factors = np.atleast_1d(np.asarray(scales, dtype=np.float64))
    chi = _chi_of_pairs(electrode.stress, electrolyte.stress, float(deviatoric), float(hydrostatic), factors)
    return np.asarray(surface + chi.max(axis=(1, 2)))


def _solved(tensor: ArrayLike, directions: FloatArray, normals: FloatArray, side: Side) -> Waves:
    solved = surface_response(tensor, directions, normals, side)
    return Waves(directions, np.concatenate([solved.traction[:, :2, :2], solved.in_plane[:, None, :2]], axis=1))


def _fan(wave: FloatArray, normal: ArrayLike) -> FloatArray:
    """Directions in the plane of a normal from one coarse step before a direction to one behind it."""
    up = np.asarray(normal, dtype=np.float64) / np.linalg.norm(normal)
    angles = np.linspace(-np.pi / N_DIRECTIONS, np.pi / N_DIRECTIONS, N_FINER)
    return np.asarray(np.cos(angles)[:, None] * wave + np.sin(angles)[:, None] * np.cross(up, wave))


@numba.njit(cache=True, nogil=True)  # pragma: no cover - compiled, so never traced
def _chi_of_pairs(
    below: NDArray[np.complex128],
    above: NDArray[np.complex128],
    deviatoric: float,
    hydrostatic: float,
    scales: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Elastic part of chi for every scale, electrolyte direction and electrode direction."""
    n_s, n_e = len(above), len(below)
    chi = np.empty((len(scales), n_s, n_e))
    for number in range(len(scales)):
        scale = scales[number]
        for row in range(n_s):
            s = above[row] * scale
            for column in range(n_e):
                e = below[column]
                # u1 per u2 that makes sigma_12 the same on both sides
                u1 = -(s[0, 1] - e[0, 1]) / (s[0, 0] - e[0, 0])
                normal_s = (s[1, 0] * u1 + s[1, 1]).real
                along_s = (s[2, 0] * u1 + s[2, 1]).real
                normal_e = (e[1, 0] * u1 + e[1, 1]).real
                along_e = (e[2, 0] * u1 + e[2, 1]).real
                shear = (normal_e - along_e - normal_s + along_s) / 2
                pressure = -(normal_e + along_e + normal_s + along_s) / 2
                chi[number, row, column] = deviatoric * shear + hydrostatic * pressure
    return chi
