"""92 binary features per element for crystal graphs: one-hot bins of nine properties.

The layout is the one of Xie & Grossman, Phys. Rev. Lett. 120, 145301 (2018), and its ``atom_init.json``; the values
are computed here from pymatgen's element data (Pauling electronegativity, first ionisation energy, electron affinity,
molar volume) and Cordero's covalent radii. A property that is not known leaves its bins at zero. Elements of the f
block share group 0 and one count of valence electrons, so neighbours in a lanthanide row may have equal features.

| columns | property | bins |
|---|---|---|
| 0-18 | group (0: f block) | 19 |
| 19-25 | period | 7 |
| 26-35 | Pauling electronegativity, 0.5 to 4.0 | 10 |
| 36-45 | covalent radius, 25 to 250 pm | 10 |
| 46-57 | valence electrons, 1 to 12 (f block: 2) | 12 |
| 58-67 | ln(first ionisation energy / eV), 1.3 to 3.3 | 10 |
| 68-77 | electron affinity, -3.0 to 3.7 eV | 10 |
| 78-81 | block s, p, d, f | 4 |
| 82-91 | ln(molar volume / (cm^3/mol)), 1.5 to 4.3 | 10 |
"""

from __future__ import annotations

import warnings
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Element

N_ATOM_FEATURES = 92
MAX_ATOMIC_NUMBER = 100
_BLOCKS = "spdf"


@lru_cache(maxsize=1)
def _table() -> NDArray[np.float32]:
    """Features of all elements, read-only."""
    table = np.zeros((MAX_ATOMIC_NUMBER + 1, N_ATOM_FEATURES), dtype=np.float32)
    for number in range(1, MAX_ATOMIC_NUMBER + 1):
        table[number] = np.concatenate(_bins(Element.from_Z(number)))
    table.setflags(write=False)
    return table


def atom_feature_table() -> NDArray[np.float32]:
    """Features of every element by atomic number.

    Returns
    -------
    ndarray, shape (101, 92), float32
        Zeros and ones, read-only; row 0 is zero and stands for no element.
    """
    return _table()


def _bins(element: Element) -> list[NDArray[np.float32]]:
    """Encode one element as nine one-hot blocks."""
    from pymatgen.analysis.molecule_structure_comparator import CovalentRadius  # takes half a second

    f_block = element.block == "f"
    group = 0 if f_block else element.group
    return [
        _one_hot(group, 19),
        _one_hot(element.row - 1, 7),
        _binned(_known(element.X if element.Z not in _NO_ELECTRONEGATIVITY else None), 0.5, 4.0),
        _binned(_known(CovalentRadius.radius.get(element.symbol), 100), 25, 250),
        _one_hot(_valence_electrons(element) - 1, 12),
        _binned(_log(_quiet(element, "ionization_energy")), 1.3, 3.3),
        _binned(_known(_quiet(element, "electron_affinity")), -3.0, 3.7),
        _one_hot(_BLOCKS.index(element.block), 4),
        _binned(_log(_molar_volume(element)), 1.5, 4.3),
    ]


_NO_ELECTRONEGATIVITY = frozenset({2, 10, 18})
"""He, Ne, Ar: Pauling's scale has no value for them and pymatgen warns."""


def _valence_electrons(element: Element) -> int:
    """Electrons outside the closed shell by the group: s and p for main groups, s and d for the d block."""
    if element.block == "f":
        return 2
    if element.symbol == "He":
        return 2
    return element.group - 10 if element.block == "p" else element.group


def _molar_volume(element: Element) -> float | None:
    """cm^3/mol, None where pymatgen has none."""
    value = _quiet(element, "molar_volume")
    return None if value is None else float(value)


def _quiet(element: Element, name: str) -> float | None:
    """Read a property without pymatgen's warning about missing data."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        value = getattr(element, name)
    return None if value is None else float(value)


def _known(value: float | None, scale: float = 1.0) -> float | None:
    """Scaled value; None for a missing one."""
    return None if value is None or not np.isfinite(value) else float(value) * scale


def _log(value: float | None) -> float | None:
    """Natural logarithm; None for a missing value."""
    return None if value is None or not value > 0 else float(np.log(value))


def _one_hot(position: int, size: int) -> NDArray[np.float32]:
    """Make a row with a one at `position`."""
    row = np.zeros(size, dtype=np.float32)
    row[position] = 1
    return row


def _binned(value: float | None, low: float, high: float) -> NDArray[np.float32]:
    """One-hot of ten equal bins from `low` to `high`; values beyond an end count to the outermost bin."""
    row = np.zeros(10, dtype=np.float32)
    if value is not None:
        row[int(np.clip((value - low) / (high - low) * 10, 0, 9))] = 1
    return row
