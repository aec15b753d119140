"""Metal electrodes: constants of Li, Na, K, Mg, Zn and Al with their sources.

Lithium is the published screen's, so that results can be compared. The others' moduli are Hill's averages of measured
constants of their crystals at room temperature.

Sources
-------
Elastic constants: C. Kittel, Introduction to Solid State Physics, 8th ed., chapter 3, table 11 (Na, K, Al); L. J.
Slutsky & C. W. Garland, Phys. Rev. 107, 972 (1957) (Mg); G. A. Alers & J. R. Neighbours, J. Phys. Chem. Solids 7, 58
(1958) (Zn). Surface energies: W. R. Tyson & W. A. Miller, Surf. Sci. 62, 267 (1977), from measured surface tensions of
the liquids. Molar volumes: pymatgen's element data. Ionic radii (`models.volume_ratio`): R. D. Shannon, Acta Cryst. A
32, 751 (1976).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from models.elasticity import poisson_ratio, voigt_reuss_hill
from models.electrodeposition import LITHIUM, StabilityConstants
from models.errors import InputError
from models.stroh import FloatArray


@dataclass(frozen=True)
class _Metal:
    """Measured constants: stiffness in GPa (C11, C12, C13, C33, C44), J/m^2, m^3/mol."""

    stiffness: tuple[float, float, float, float, float]
    surface_energy: float
    molar_volume: float
    charge: float

    def tensor(self) -> FloatArray:
        """Return the stiffness (6, 6) of a cubic or hexagonal crystal, GPa."""
        c11, c12, c13, c33, c44 = self.stiffness
        is_cubic = c11 == c33 and c12 == c13
        tensor = np.diag([c11, c11, c33, c44, c44, c44 if is_cubic else (c11 - c12) / 2])
        tensor[0, 1] = tensor[1, 0] = c12
        tensor[:2, 2] = tensor[2, :2] = c13
        return tensor


_METALS = {
    "Na": _Metal((7.38, 6.22, 6.22, 7.38, 4.19), 0.261, 2.378e-5, 1.0),
    "K": _Metal((3.70, 3.14, 3.14, 3.70, 1.88), 0.145, 4.594e-5, 1.0),
    "Mg": _Metal((59.7, 26.2, 21.7, 61.7, 16.4), 0.785, 1.400e-5, 2.0),
    "Zn": _Metal((163.7, 36.4, 53.0, 63.5, 38.8), 0.993, 9.16e-6, 2.0),
    "Al": _Metal((106.8, 60.7, 60.7, 106.8, 28.2), 1.143, 1.000e-5, 3.0),
}

METAL_NAMES = {
    "Li": "lithium", "Na": "sodium", "K": "potassium", "Mg": "magnesium", "Zn": "zinc", "Al": "aluminium",
}  # fmt: skip
"""Metals that have constants, by symbol."""
METALS: tuple[str, ...] = tuple(METAL_NAMES)


def electrode(metal: str, wavenumber: float = LITHIUM.wavenumber) -> StabilityConstants:
    """Return the constants of a metal electrode.

    Parameters
    ----------
    metal : str
        Symbol, one of `METALS`.
    wavenumber : float
        k of the interface's roughness, 1/m.

    Returns
    -------
    StabilityConstants
        Of the polycrystalline metal.

    Raises
    ------
    InputError
        Another metal.
    """
    if metal == LITHIUM.metal:
        return replace(LITHIUM, wavenumber=wavenumber)
    if metal not in _METALS:
        raise InputError(f"no constants for an electrode of {metal}; choose one of {', '.join(METALS)}")
    known = _METALS[metal]
    averages = voigt_reuss_hill(known.tensor())
    bulk, shear = float(averages.bulk_vrh[0]), float(averages.shear_vrh[0])
    return StabilityConstants(
        metal=metal,
        shear_modulus=shear,
        poisson_ratio=float(poisson_ratio(bulk, shear)),
        molar_volume=known.molar_volume,
        surface_energy=known.surface_energy,
        wavenumber=wavenumber,
        charge=known.charge,
    )
