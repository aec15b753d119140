"""Element data of the Magpie attributes, as matminer has them, for the 86 elements."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.elements import ELEMENTS

PROPERTIES: Final = (
    "Number",
    "MendeleevNumber",
    "AtomicWeight",
    "MeltingT",
    "Column",
    "Row",
    "CovalentRadius",
    "Electronegativity",
    "NsValence",
    "NpValence",
    "NdValence",
    "NfValence",
    "NValence",
    "NsUnfilled",
    "NpUnfilled",
    "NdUnfilled",
    "NfUnfilled",
    "NUnfilled",
    "GSvolume_pa",
    "GSbandgap",
    "GSmagmom",
    "SpaceGroupNumber",
)
"""The 22 properties of an element, in matminer's order; lengths are in pm, volumes in A^3/atom, temperatures in K."""
VALENCE: Final = tuple(PROPERTIES.index(f"N{orbital}Valence") for orbital in "spdf")
"""Where the numbers of s, p, d and f valence electrons stand among `PROPERTIES`."""


@dataclass(frozen=True)
class ElementData:
    """Data of the 86 elements, in the order of `models.elements.ELEMENTS`.

    Attributes
    ----------
    properties : ndarray, shape (86, 22), float64
        The Magpie properties; where Magpie has none for an element, the mean over all elements that have one, which is
        matminer's default.
    electronegativity : ndarray, shape (86,), float64
        On Pauling's scale, as pymatgen states it; gaps filled in the same way.
    oxidation_states : ndarray, shape (86, m), float64
        Common oxidation states, as pymatgen states them, padded with 0.
    n_oxidation_states : ndarray, shape (86,), int64
        How many of them an element has.
    """

    properties: NDArray[np.float64]
    electronegativity: NDArray[np.float64]
    oxidation_states: NDArray[np.float64]
    n_oxidation_states: NDArray[np.int64]


@lru_cache(maxsize=1)
def element_data() -> ElementData:
    """Read the data from matminer's files, once per process; the arrays are read-only."""
    from matminer.utils.data import MagpieData, PymatgenData  # seconds to import, so only where they are needed
    from pymatgen.core import Element

    magpie, pauling = MagpieData(impute_nan=True), PymatgenData(impute_nan=True)
    elements = [Element(symbol) for symbol in ELEMENTS]
    states = [pauling.get_oxidation_states(element) for element in elements]
    padded = np.zeros((len(elements), max(len(some) for some in states)))
    for row, some in zip(padded, states, strict=True):
        row[: len(some)] = some
    data = ElementData(
        np.array([[magpie.get_elemental_property(e, name) for name in PROPERTIES] for e in elements], dtype=np.float64),
        np.array([pauling.get_elemental_property(e, "X") for e in elements], dtype=np.float64),
        padded,
        np.array([len(some) for some in states], dtype=np.int64),
    )
    for array in (data.properties, data.electronegativity, data.oxidation_states, data.n_oxidation_states):
        array.flags.writeable = False
    return data
