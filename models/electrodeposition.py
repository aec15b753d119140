"""Monroe-Newman stability of a metal electrode against a solid electrolyte, isotropic.

The interface is z = A cos(kx); ``chi`` is the kinetic stability parameter in kJ/mol/nm. Deposition is stable where
chi < 0, and lower is better. Three traps, each tested:

1. ``e`` is the metal electrode, ``s`` the solid electrolyte. The hydrostatic part changes sign when they are swapped,
   so a swap silently makes stiff solids look stable.
2. The factors (1+v), (1-v) hold the molar-volume ratio v = V_M+ / V_M, not a Poisson ratio.
3. Pressure is the in-plane mean -(s11+s22)/2 of plane strain, which is what the closed form contains.

The surface term is implemented as published. By a force-balance argument its sign is opposite to the convention of
the two elastic terms; it is worth 0.04 kJ/mol/nm at k = 1e8 1/m and decides what ``lambda_crit`` means. The criterion
is linear elastic and about initiation only: no cracks, grain boundaries or plastic flow of the metal.

Sources
-------
Monroe & Newman, J. Electrochem. Soc. 151, A880 (2004) and 152, A396 (2005); Ahmad & Viswanathan, Phys. Rev. Lett. 119,
056003 (2017); Ahmad, Xie, Maheshwari, Grossman, Viswanathan, ACS Cent. Sci. 4, 996 (2018), constants from its code.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.elasticity import poisson_ratio
from models.errors import InputError

FloatArray = NDArray[np.float64]

PASCAL_PER_GPA = 1e9
KJ_PER_MOL_NM = 1e-12
"""One J/mol/m in kJ/mol/nm."""
NM_PER_M = 1e9
MAX_MODULUS = 1e6
"""Moduli [GPa] at or above this (diamond: 443) are no moduli in GPa, most likely Pa; as a limit it also rules out
overflow."""
MAX_VOLUME_RATIO = 1e6
"""The same for v, which is 0.03-0.74 in inorganic solids and a few units in polymers."""


@dataclass(frozen=True)
class StabilityConstants:
    """The metal electrode and the perturbation of its surface.

    Attributes
    ----------
    metal : str
        Symbol of the electrode.
    shear_modulus : float
        G_e of the polycrystalline metal, GPa.
    poisson_ratio : float
        nu_e, dimensionless, in (-1, 1/2).
    molar_volume : float
        V_M of the metal, m^3/mol.
    surface_energy : float
        gamma, J/m^2.
    wavenumber : float
        k of the perturbation, 1/m.
    charge : float
        z of the cation.
    """

    metal: str = "Li"
    shear_modulus: float = 3.4
    poisson_ratio: float = 0.42
    molar_volume: float = 1.3e-5
    surface_energy: float = 0.556
    wavenumber: float = 1e8
    charge: float = 1.0

    def __post_init__(self) -> None:
        """Refuse constants that have no meaning."""
        for name in ("shear_modulus", "molar_volume", "wavenumber", "charge"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} of the electrode is {getattr(self, name)}; give a positive number")
        if not self.surface_energy >= 0:
            raise InputError(f"surface_energy of the electrode is {self.surface_energy}; give zero or more, J/m^2")
        if not -1 < self.poisson_ratio <= 0.5:
            raise InputError(f"poisson_ratio of the electrode is {self.poisson_ratio}; give a number in (-1, 1/2]")


LITHIUM = StabilityConstants()
"""Polycrystalline lithium as in Ahmad et al. 2018."""


@dataclass(frozen=True)
class StabilityParameter:
    """chi and its parts; every array has the shape of the input and holds NaN where the input is bad.

    Attributes
    ----------
    surface, deviatoric, hydrostatic : ndarray
        The three terms, kJ/mol/nm.
    chi : ndarray
        Their sum, kJ/mol/nm.
    lambda_crit_nm : ndarray
        Wavelength below which surface tension stabilises, nm, larger is better; inf where every wavelength is stable.
    """

    surface: FloatArray
    deviatoric: FloatArray
    hydrostatic: FloatArray
    chi: FloatArray
    lambda_crit_nm: FloatArray


def moduli_reasons(bulk: ArrayLike, shear: ArrayLike) -> list[str | None]:
    """Say for each row why its moduli cannot be used.

    Parameters
    ----------
    bulk, shear : array_like, shape (n,)
        K and G, GPa.

    Returns
    -------
    list of str or None
        None for a good row.
    """
    k, g = _rows(bulk, shear)
    return [_moduli_reason(*row) for row in zip(k, g, strict=True)]


def invalid_reasons(bulk: ArrayLike, shear: ArrayLike, volume_ratio: ArrayLike) -> list[str | None]:
    """Say for each row why it has no chi.

    Parameters
    ----------
    bulk, shear : array_like, shape (n,)
        K and G of the electrolyte, GPa.
    volume_ratio : array_like, shape (n,)
        v, dimensionless.

    Returns
    -------
    list of str or None
        None exactly where `stability_parameter` gives a finite chi.
    """
    k, g, v = _rows(bulk, shear, volume_ratio)
    reasons = moduli_reasons(k, g)
    for row, (reason, ratio) in enumerate(zip(reasons, v, strict=True)):
        if reason is not None:
            continue
        if np.isnan(ratio):
            reasons[row] = "volume ratio is missing"
        elif not 0 < ratio < MAX_VOLUME_RATIO:
            reasons[row] = f"volume ratio {ratio:g} is outside (0, {MAX_VOLUME_RATIO:g})"
    return reasons


def stability_parameter(
    bulk: ArrayLike, shear: ArrayLike, volume_ratio: ArrayLike, constants: StabilityConstants = LITHIUM
) -> StabilityParameter:
    """Compute chi of isotropic electrolytes against the metal.

    Parameters
    ----------
    bulk, shear : array_like
        K and G of the electrolyte, GPa; broadcast against each other and against `volume_ratio`.
    volume_ratio : array_like
        v = V_M+ / V_M, dimensionless.
    constants : StabilityConstants
        The electrode.

    Returns
    -------
    StabilityParameter
        Arrays of the broadcast shape. Rows with K <= 0, G <= 0, nu outside (-1, 1/2), v <= 0 or NaN hold NaN;
        `invalid_reasons` says why.
    """
    k, g, v = _columns(bulk, shear, volume_ratio)
    good = _is_valid(k, g, v)
    g, v = np.where(good, g, np.nan), np.where(good, v, np.nan)
    nu_s, nu_e = np.where(good, poisson_ratio(k, g), np.nan), constants.poisson_ratio
    g_s, g_e = g * PASCAL_PER_GPA, constants.shear_modulus * PASCAL_PER_GPA
    wave, volume, z = constants.wavenumber, constants.molar_volume, constants.charge
    denominator = g_e * (nu_e - 1) * (4 * nu_s - 3) + g_s * (4 * nu_e - 3) * (nu_s - 1)
    coupling = nu_e * (4 * nu_s - 3) - 3 * nu_s + 2
    difference = g_s**2 * (3 - 4 * nu_e) - g_e**2 * (3 - 4 * nu_s)
    surface = -constants.surface_energy * wave**2 * volume * (1 + v) / (2 * z)
    deviatoric = 2 * g_e * g_s * wave * volume * (1 + v) * coupling / (z * denominator)
    hydrostatic = wave * volume * (1 - v) * difference / (2 * z * denominator)
    elastic = (1 - v) * difference + 4 * g_e * g_s * (1 + v) * coupling
    return StabilityParameter(
        surface=surface * KJ_PER_MOL_NM,
        deviatoric=deviatoric * KJ_PER_MOL_NM,
        hydrostatic=hydrostatic * KJ_PER_MOL_NM,
        chi=(surface + deviatoric + hydrostatic) * KJ_PER_MOL_NM,
        lambda_crit_nm=_critical_wavelength(elastic, (1 + v) * constants.surface_energy * denominator) * NM_PER_M,
    )


def critical_modulus_ratio(
    poisson: ArrayLike, volume_ratio: ArrayLike, constants: StabilityConstants = LITHIUM
) -> FloatArray:
    """G_s/G_e at which the elastic part of chi changes sign.

    Below it an electrolyte with v < 1 is stable, above it one with v > 1.

    Parameters
    ----------
    poisson : array_like
        nu_s, dimensionless, in (-1, 1/2).
    volume_ratio : array_like
        v, dimensionless, positive.
    constants : StabilityConstants
        The electrode.

    Returns
    -------
    ndarray
        Dimensionless; NaN for nu_s outside (-1, 1/2), v <= 0, and v = 1 (no ratio balances the deviatoric part alone).
    """
    nu_s, v = np.broadcast_arrays(np.asarray(poisson, dtype=np.float64), np.asarray(volume_ratio, dtype=np.float64))
    good = (nu_s > -1) & (nu_s < 0.5) & (v > 0) & (v != 1) & np.isfinite(v)
    nu_s, v = np.where(good, nu_s, np.nan), np.where(good, v, np.nan)
    nu_e = constants.poisson_ratio
    a, b = 3 - 4 * nu_e, 3 - 4 * nu_s
    c = nu_e * (4 * nu_s - 3) - 3 * nu_s + 2
    linear = 4 * c * (1 + v) / (1 - v)
    return np.asarray((-linear + np.sqrt(linear**2 + 4 * a * b)) / (2 * a))


def _critical_wavelength(elastic: FloatArray, surface: FloatArray) -> FloatArray:
    """2 pi / k_crit in m from k_crit = elastic / surface; inf where k_crit <= 0, NaN stays NaN."""
    with np.errstate(divide="ignore", invalid="ignore"):
        wavelength = 2 * np.pi * surface / elastic
    return np.where(elastic <= 0, np.inf, wavelength)


def _is_valid(k: FloatArray, g: FloatArray, v: FloatArray) -> NDArray[np.bool_]:
    """Rows that have a chi."""
    nu = poisson_ratio(k, g)
    in_range = (k < MAX_MODULUS) & (g < MAX_MODULUS) & (v > 0) & (v < MAX_VOLUME_RATIO)
    return np.asarray(in_range & (nu > -1) & (nu < 0.5))


def _moduli_reason(bulk: float, shear: float) -> str | None:
    """Why one pair of moduli cannot be used, None if it can."""
    for name, value in (("bulk", bulk), ("shear", shear)):
        if np.isnan(value):
            return f"{name} modulus is missing"
        if value <= 0:
            return f"{name} modulus {value:g} GPa is not positive"
        if value >= MAX_MODULUS:
            return f"{name} modulus {value:g} GPa is too large for a modulus in GPa"
    nu = float(poisson_ratio(bulk, shear))
    # positive moduli reach the limits only through rounding, when one is negligible beside the other
    return None if -1 < nu < 0.5 else f"Poisson ratio {nu:g} is outside (-1, 1/2)"


def _columns(*values: ArrayLike) -> list[FloatArray]:
    """Arguments as float64 arrays of one shape."""
    return [np.asarray(a, dtype=np.float64) for a in np.broadcast_arrays(*[np.asarray(v, np.float64) for v in values])]


def _rows(*values: ArrayLike) -> list[FloatArray]:
    """Arguments as float64 arrays of one shape (n,)."""
    return [np.atleast_1d(column).ravel() for column in _columns(*values)]
