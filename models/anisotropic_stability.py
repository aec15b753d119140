"""Monroe-Newman stability of an interface between two anisotropic crystals.

The interface is x2 = 0 with the metal electrode in x2 < 0 and the electrolyte in x2 > 0; it is raised by A cos(k x1).
Both bodies follow with u2 = A and u3 = 0 there and share u1 and sigma_12. At the peak the in-plane pressure
p = -(sigma_11 + sigma_22)/2 and the normal deviatoric stress tau = sigma_22 + p make

    chi = surface + (1+v) V_M/(2z) (tau_e - tau_s)/A + (1-v) V_M/(2z) (p_e + p_s)/A

which is the isotropic closed form (`models.electrodeposition`) where both tensors are isotropic.

Source: Ahmad & Viswanathan, Phys. Rev. Materials 1, 055403 (2017).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.electrodeposition import KJ_PER_MOL_NM, LITHIUM, PASCAL_PER_GPA, StabilityConstants
from models.errors import InputError
from models.stroh import ComplexArray, FloatArray, SurfaceResponse

LITHIUM_CRYSTAL: FloatArray = np.zeros((6, 6))
"""Stiffness of crystalline lithium along its cubic axes, GPa: C11 13.50, C12 11.44, C44 8.78, as the published screen
took them (Ahmad et al., ACS Cent. Sci. 4, 996 (2018), its code)."""
LITHIUM_CRYSTAL[:3, :3] = 11.44
LITHIUM_CRYSTAL[[0, 1, 2], [0, 1, 2]] = 13.50
LITHIUM_CRYSTAL[[3, 4, 5], [3, 4, 5]] = 8.78
LITHIUM_CRYSTAL.flags.writeable = False

LITHIUM_FACETS: dict[tuple[int, int, int], float] = {(0, 1, 0): 0.46, (1, 1, 0): 0.50, (1, 1, 1): 0.54, (2, 1, 1): 0.54}
"""Surface energies of lithium's facets, J/m^2, of the same screen."""

CRYSTAL_CONSTANTS = replace(LITHIUM, molar_volume=1.30323e-5)
"""Molar volume of the same screen's anisotropic part; its moduli are not used, its surface energy is the facet's."""


@dataclass(frozen=True)
class InterfaceStability:
    """chi of n interfaces and its parts, kJ/mol/nm; NaN where a tensor is not positive definite.

    Attributes
    ----------
    surface, deviatoric, hydrostatic, chi : ndarray, shape (n,)
        The three terms and their sum.
    """

    surface: FloatArray
    deviatoric: FloatArray
    hydrostatic: FloatArray
    chi: FloatArray


def interface_stability(
    electrode: SurfaceResponse,
    electrolyte: SurfaceResponse,
    volume_ratio: ArrayLike,
    surface_energy: ArrayLike,
    constants: StabilityConstants = CRYSTAL_CONSTANTS,
) -> InterfaceStability:
    """Join two half-spaces.

    Parameters
    ----------
    electrode, electrolyte : SurfaceResponse
        Of n waves: the electrode solved ``below``, the electrolyte ``above``; one of both may be a single one.
    volume_ratio : array_like, shape (n,) or scalar
        v = V_M+ / V_M, dimensionless.
    surface_energy : array_like, shape (n,) or scalar
        gamma of the electrode's facet, J/m^2.
    constants : StabilityConstants
        Molar volume, charge and wavenumber; its moduli and its surface energy are not used.

    Returns
    -------
    InterfaceStability
        n interfaces.
    """
    surface, of_tau, of_pressure = interface_factors(volume_ratio, surface_energy, constants)
    along = _relaxed(electrode.traction, electrolyte.traction)
    (p_e, tau_e), (p_s, tau_s) = (_pressure_and_tau(body, along) for body in (electrode, electrolyte))
    deviatoric, hydrostatic = of_tau * (tau_e - tau_s), of_pressure * (p_e + p_s)
    surface = np.broadcast_to(surface, deviatoric.shape)
    return InterfaceStability(surface, deviatoric, hydrostatic, surface + deviatoric + hydrostatic)


def interface_factors(
    volume_ratio: ArrayLike, surface_energy: ArrayLike, constants: StabilityConstants = CRYSTAL_CONSTANTS
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the surface term, and what the differences of tau and the sums of p are multiplied by.

    Parameters
    ----------
    volume_ratio, surface_energy, constants
        As `interface_stability`.

    Returns
    -------
    tuple of ndarray
        Surface term [kJ/mol/nm]; factors of tau_e - tau_s and of p_e + p_s [kJ/mol/nm per GPa], where stresses are
        per wavenumber and amplitude.
    """
    v, gamma = np.asarray(volume_ratio, dtype=np.float64), np.asarray(surface_energy, dtype=np.float64)
    wave, volume, z = constants.wavenumber, constants.molar_volume, constants.charge
    common = wave * volume * PASCAL_PER_GPA / (2 * z) * KJ_PER_MOL_NM
    surface = -gamma * wave**2 * volume * (1 + v) / (2 * z) * KJ_PER_MOL_NM
    return np.asarray(surface), np.asarray(common * (1 + v)), np.asarray(common * (1 - v))


def directions_in_plane(normal: ArrayLike, n: int = 36) -> FloatArray:
    """Return directions in a plane, evenly over half a turn (a wave runs both ways).

    Parameters
    ----------
    normal : array_like, shape (3,)
        Of the plane, of any length.
    n : int
        How many.

    Returns
    -------
    ndarray, shape (n, 3)
        Of length one; the first is the projection of the axis that lies closest to the plane.
    """
    up = np.asarray(normal, dtype=np.float64)
    length = float(np.linalg.norm(up))
    if n < 1 or not length > 0:
        raise InputError("directions in a plane need a normal with a length and at least one direction")
    up = up / length
    axis = np.eye(3)[int(np.argmin(np.abs(up)))]
    first = axis - (axis @ up) * up
    first /= np.linalg.norm(first)
    angles = np.pi * np.arange(n) / n
    return np.asarray(np.cos(angles)[:, None] * first + np.sin(angles)[:, None] * np.cross(up, first))


def plane_normal(lattice: ArrayLike, hkl: Sequence[int]) -> FloatArray:
    """Return the normal of a plane (hkl), of length one.

    Parameters
    ----------
    lattice : array_like, shape (3, 3)
        Rows a, b, c in A, in the frame of the tensor.
    hkl : sequence of int
        Miller indices, not all zero.
    """
    if len(hkl) != 3 or not any(hkl):
        raise InputError(f"plane {tuple(hkl)} has no normal; give three Miller indices that are not all zero")
    reciprocal = np.linalg.inv(np.asarray(lattice, dtype=np.float64)).T
    normal = np.asarray(hkl, dtype=np.float64) @ reciprocal
    return np.asarray(normal / np.linalg.norm(normal))


def _relaxed(below: ComplexArray, above: ComplexArray) -> ComplexArray:
    """Displacement (n, 3) per A: u1 takes the value that makes sigma_12 the same on both sides."""
    difference = above - below
    with np.errstate(invalid="ignore"):  # NaN in, NaN out
        u1 = -difference[:, 0, 1] / difference[:, 0, 0]
    return np.stack([u1, np.ones_like(u1), np.zeros_like(u1)], axis=1)


def _pressure_and_tau(body: SurfaceResponse, u: ComplexArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """In-plane pressure and normal deviatoric stress at the peak per k A, GPa."""
    normal = (body.traction[:, 1] * u).sum(axis=1).real
    along = (body.in_plane * u).sum(axis=1).real
    pressure = -(along + normal) / 2
    return pressure, normal + pressure
