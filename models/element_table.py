"""What is tabulated of the elements, as networks that start from it take it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

N_PROPERTIES = 49
"""Tabulated numbers of an element: 22 properties, its column and its row of the periodic table."""


def element_table() -> NDArray[np.float32]:
    """Return the tabulated numbers of the 86 elements, shape (86, N_PROPERTIES); numbers have mean 0 and spread 1.

    The 22 properties of Magpie (L. Ward et al., npj Comput. Mater. 2, 16028 (2016)), and indicators of the column and
    of the row of the periodic table.
    """
    from models.magpie_data import PROPERTIES, element_data  # matminer takes seconds to import

    values = element_data().properties
    standard = (values - values.mean(axis=0)) / values.std(axis=0)
    column, row = (values[:, PROPERTIES.index(name)].astype(int) for name in ("Column", "Row"))
    return np.concatenate([standard, np.eye(19)[column], np.eye(8)[row]], axis=1).astype(np.float32)
