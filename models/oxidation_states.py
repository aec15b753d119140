"""Oxidation states and sizes used to decorate prototypes."""

from __future__ import annotations

import warnings
from functools import lru_cache

from pymatgen.core import Element, Species

CATIONS: dict[int, tuple[str, ...]] = {
    1: ("Li", "Na", "K", "Rb", "Cs", "Cu", "Ag", "Au", "Tl", "Hg"),
    2: (
        *("Be", "Mg", "Ca", "Sr", "Ba", "Ti", "V", "Cr", "Mn", "Fe", "Co", "Ni", "Cu", "Zn", "Cd", "Hg"),
        *("Ge", "Sn", "Pb", "Pd", "Pt", "Sm", "Eu", "Yb", "Ag", "Kr", "Xe"),
    ),
    3: (
        *("B", "Al", "Ga", "In", "Tl", "Sc", "Y", "La", "Ce", "Pr", "Nd", "Pm", "Sm", "Eu", "Gd", "Tb", "Dy"),
        *("Ho", "Er", "Tm", "Yb", "Lu", "Ac", "U", "Np", "Pu", "Ti", "V", "Cr", "Mn", "Fe", "Co", "Ni", "Mo"),
        *("Ru", "Rh", "Ir", "Au", "As", "Sb", "Bi"),
    ),
    4: (
        *("C", "Si", "Ge", "Sn", "Pb", "Ti", "Zr", "Hf", "V", "Nb", "Mo", "W", "Mn", "Tc", "Re", "Ru", "Os"),
        *("Ir", "Pd", "Pt", "Ce", "Pr", "Tb", "Th", "Pa", "U", "Np", "Pu", "S", "Se", "Te"),
    ),
    5: ("N", "P", "As", "Sb", "Bi", "V", "Nb", "Ta", "Re", "Ru", "Pa", "U"),
    6: ("Cr", "Mo", "W", "Re", "Os", "U", "S", "Se", "Te"),
    7: ("Mn", "Tc", "Re"),
}
"""Positive states in which an element is common in solids (Greenwood and Earnshaw, Chemistry of the Elements)."""

ANIONS: dict[int, tuple[str, ...]] = {
    -1: ("F", "Cl", "Br", "I", "H"),
    -2: ("O", "S", "Se", "Te"),
    -3: ("N", "P", "As", "Sb", "Bi"),
    -4: ("C", "Si", "Ge"),
}
"""Negative states considered, electronegative element first."""

WEIGHTS: dict[str, float] = {
    **{"O": 4.0, "F": 3.0, "S": 2.5, "Cl": 2.5, "Se": 1.6, "Br": 1.4, "N": 1.4, "I": 1.2, "Te": 1.2, "P": 1.1},
    **{"As": 0.9, "Sb": 0.8, "H": 0.8, "Bi": 0.6, "C": 0.7, "Si": 0.6, "Ge": 0.5},
    **dict.fromkeys(("Ac", "Pa", "Np", "Pu", "Tc", "Pm", "Kr", "Xe"), 0.35),
    **dict.fromkeys(("Os", "Re", "Hg", "Au", "U", "Th", "Be"), 0.7),
}
"""How often a formula is drawn, per element; 1 where not listed. Common anions first, radioactive elements last."""

_ANION_RADII = {
    **{"F": 1.19, "Cl": 1.67, "Br": 1.82, "I": 2.06, "H": 1.25, "O": 1.26, "S": 1.70, "Se": 1.84, "Te": 2.07},
    **{"N": 1.32, "P": 1.85, "As": 1.95, "Sb": 2.15, "Bi": 2.25, "C": 1.45, "Si": 1.95, "Ge": 2.0},
}
_LIGHT_VOLUMES = {"H": 4.0, "B": 7.3, "C": 5.7, "N": 7.0, "O": 8.0, "F": 9.0, "P": 14.0, "S": 15.0, "Cl": 20.0}


@lru_cache(maxsize=1024)
def ionic_radius(symbol: str, charge: int) -> float:
    """Radius of an ion in six-fold coordination (Shannon, Acta Cryst. A32, 751, 1976), Angstrom.

    Anions that Shannon does not list, and cations without an entry for the charge, get a rough value: it only
    starts a search for the volume.
    """
    if charge < 0:
        return _ANION_RADII[symbol]
    element = Element(symbol)
    table = element.ionic_radii
    if charge in table:
        return max(0.15, float(table[charge]))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pymatgen warns where Shannon gives several spin states or none
            radius = Species(symbol, charge).ionic_radius
    except (KeyError, ValueError):
        radius = None
    if radius is None:
        radius = min((float(value) for state, value in table.items() if state > 0), default=None)
    return max(0.15, float(radius)) if radius is not None else 0.9


@lru_cache(maxsize=256)
def metallic_volume(symbol: str) -> float:
    """Volume of an atom in its element's solid, A^3 (molar volumes of pymatgen's periodic table)."""
    if symbol in _LIGHT_VOLUMES:
        return _LIGHT_VOLUMES[symbol]
    molar = Element(symbol).molar_volume
    return float(molar) / 0.602214076 if molar is not None else 20.0


def weight(elements: tuple[str, ...]) -> float:
    """Weigh a set of elements for sampling, dimensionless."""
    product = 1.0
    for symbol in elements:
        product *= WEIGHTS.get(symbol, 1.0)
    return product
