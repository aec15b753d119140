"""The 86 elements of the composition space in the order of the feature columns, and families of elements.

The order is the one of ElemNet (H to Pu by atomic number without He, Ne, Ar, Po, At, Rn, Fr and Ra). It is part of
every stored feature table and model, so it never changes, whatever elements a data set lacks.
"""

from __future__ import annotations

from typing import Final

ALL_SYMBOLS: Final[tuple[str, ...]] = (
    "H",
    "He",
    "Li",
    "Be",
    "B",
    "C",
    "N",
    "O",
    "F",
    "Ne",
    "Na",
    "Mg",
    "Al",
    "Si",
    "P",
    "S",
    "Cl",
    "Ar",
    "K",
    "Ca",
    "Sc",
    "Ti",
    "V",
    "Cr",
    "Mn",
    "Fe",
    "Co",
    "Ni",
    "Cu",
    "Zn",
    "Ga",
    "Ge",
    "As",
    "Se",
    "Br",
    "Kr",
    "Rb",
    "Sr",
    "Y",
    "Zr",
    "Nb",
    "Mo",
    "Tc",
    "Ru",
    "Rh",
    "Pd",
    "Ag",
    "Cd",
    "In",
    "Sn",
    "Sb",
    "Te",
    "I",
    "Xe",
    "Cs",
    "Ba",
    "La",
    "Ce",
    "Pr",
    "Nd",
    "Pm",
    "Sm",
    "Eu",
    "Gd",
    "Tb",
    "Dy",
    "Ho",
    "Er",
    "Tm",
    "Yb",
    "Lu",
    "Hf",
    "Ta",
    "W",
    "Re",
    "Os",
    "Ir",
    "Pt",
    "Au",
    "Hg",
    "Tl",
    "Pb",
    "Bi",
    "Po",
    "At",
    "Rn",
    "Fr",
    "Ra",
    "Ac",
    "Th",
    "Pa",
    "U",
    "Np",
    "Pu",
    "Am",
    "Cm",
    "Bk",
    "Cf",
    "Es",
    "Fm",
    "Md",
    "No",
    "Lr",
    "Rf",
    "Db",
    "Sg",
    "Bh",
    "Hs",
    "Mt",
    "Ds",
    "Rg",
    "Cn",
    "Nh",
    "Fl",
    "Mc",
    "Lv",
    "Ts",
    "Og",
)
"""Symbols of the periodic table by atomic number."""

ATOMIC_NUMBER: Final[dict[str, int]] = {symbol: i + 1 for i, symbol in enumerate(ALL_SYMBOLS)}

_EXCLUDED = frozenset(["He", "Ne", "Ar", "Po", "At", "Rn", "Fr", "Ra"])

ELEMENTS: Final[tuple[str, ...]] = tuple(s for s in ALL_SYMBOLS[: ATOMIC_NUMBER["Pu"]] if s not in _EXCLUDED)
"""The 86 elements, in the order of the feature columns."""

N_ELEMENTS: Final[int] = len(ELEMENTS)

ELEMENT_INDEX: Final[dict[str, int]] = {symbol: i for i, symbol in enumerate(ELEMENTS)}
"""Feature column of an element."""

# Pauling electronegativities as pymatgen 2026 states them (it fills the gaps of Pauling's table for Pm, Eu, Tb, Yb);
# only the order of symbols in a formula and its polyanion brackets rest on them.
ELECTRONEGATIVITY: Final[tuple[float, ...]] = (
    2.2, 0.98, 1.57, 2.04, 2.55, 3.04, 3.44, 3.98, 0.93, 1.31, 1.61, 1.9, 2.19, 2.58, 3.16, 0.82, 1.0, 1.36, 1.54,
    1.63, 1.66, 1.55, 1.83, 1.88, 1.91, 1.9, 1.65, 1.81, 2.01, 2.18, 2.55, 2.96, 3.0, 0.82, 0.95, 1.22, 1.33, 1.6,
    2.16, 1.9, 2.2, 2.28, 2.2, 1.93, 1.69, 1.78, 1.96, 2.05, 2.1, 2.66, 2.6, 0.79, 0.89, 1.1, 1.12, 1.13, 1.14, 1.13,
    1.17, 1.2, 1.2, 1.1, 1.22, 1.23, 1.24, 1.25, 1.1, 1.27, 1.3, 1.5, 2.36, 1.9, 2.2, 2.2, 2.28, 2.54, 2.0, 1.62,
    2.33, 2.02, 1.1, 1.3, 1.5, 1.38, 1.36, 1.28,
)  # fmt: skip
"""Pauling electronegativity per element of `ELEMENTS`."""

ALKALI_METALS: Final[tuple[str, ...]] = ("Li", "Na", "K", "Rb", "Cs")
ALKALINE_EARTH_METALS: Final[tuple[str, ...]] = ("Be", "Mg", "Ca", "Sr", "Ba")
LANTHANIDES: Final[tuple[str, ...]] = tuple(ALL_SYMBOLS[ATOMIC_NUMBER["La"] - 1 : ATOMIC_NUMBER["Lu"]])
ACTINIDES: Final[tuple[str, ...]] = tuple(ALL_SYMBOLS[ATOMIC_NUMBER["Ac"] - 1 : ATOMIC_NUMBER["Pu"]])
"""Actinides among the 86 elements (Ac to Pu)."""
TRANSITION_METALS_3D: Final[tuple[str, ...]] = ("Sc", "Ti", "V", "Cr", "Mn", "Fe", "Co", "Ni", "Cu", "Zn")
TRANSITION_METALS_4D: Final[tuple[str, ...]] = ("Y", "Zr", "Nb", "Mo", "Tc", "Ru", "Rh", "Pd", "Ag", "Cd")
TRANSITION_METALS_5D: Final[tuple[str, ...]] = ("Hf", "Ta", "W", "Re", "Os", "Ir", "Pt", "Au", "Hg")
"""Hf to Hg; La and Lu are counted with the lanthanides."""
HALOGENS: Final[tuple[str, ...]] = ("F", "Cl", "Br", "I")
CHALCOGENS: Final[tuple[str, ...]] = ("O", "S", "Se", "Te")
NOBLE_GASES: Final[tuple[str, ...]] = ("Kr", "Xe")
METALLOIDS: Final[tuple[str, ...]] = ("B", "Si", "Ge", "As", "Sb", "Te")
NONMETALS: Final[tuple[str, ...]] = ("H", "C", "N", "O", "F", "P", "S", "Cl", "Se", "Br", "Kr", "I", "Xe")
METALS: Final[tuple[str, ...]] = tuple(s for s in ELEMENTS if s not in NONMETALS and s not in METALLOIDS)
RADIOACTIVE: Final[tuple[str, ...]] = ("Tc", "Pm", *ACTINIDES)
"""Elements without a stable isotope; Bi-209 (half-life 2e19 years) is not counted."""
REDOX_ACTIVE: Final[tuple[str, ...]] = (
    "Ti", "V", "Cr", "Mn", "Fe", "Co", "Ni", "Cu", "Nb", "Mo", "Tc", "Ru", "Rh", "Pd", "Ag", "W", "Re", "Os", "Ir",
    "Pt", "Au", "Hg", "In", "Tl", "Ge", "Sn", "Pb", "Sb", "Bi", "Ce", "Sm", "Eu", "Yb", "U", "Np", "Pu",
)  # fmt: skip
"""Metals with ions that a metal electrode readily reduces: of several common oxidation states, or soft and alloying."""
