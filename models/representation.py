"""What a network reads of a compound: its element fractions, or the attributes of Ward et al."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.elements import N_ELEMENTS
from models.errors import InputError
from models.features import element_fractions
from models.magpie import MAGPIE_NAMES, magpie_from_formulas

FROM_FORMULA: Final[dict[str, int]] = {"element_fraction": N_ELEMENTS, "magpie": len(MAGPIE_NAMES)}
"""Representations that need nothing but a formula, and their number of columns."""
FROM_STRUCTURE: Final[tuple[str, ...]] = ("voronoi", "magpie+voronoi")
"""Representations that need structural attributes, computed before."""
N_STRUCTURAL: Final = 126
"""Structural attributes, see `models.structural_attributes.STRUCTURAL_NAMES`."""


def represent(
    formulas: Sequence[str], representation: str, structural: NDArray[np.floating] | None = None
) -> NDArray[np.float32]:
    """Return what a network reads of each compound, (n, f).

    Parameters
    ----------
    formulas
        Formulas that can be parsed.
    representation
        ``element_fraction`` (86 columns), ``magpie`` (145), ``voronoi`` (126) or ``magpie+voronoi`` (271).
    structural
        Structural attributes (n, 126) for the last two.

    Raises
    ------
    InputError
        For an unknown representation, or one of structures without structural attributes.
    """
    if representation == "element_fraction":
        return element_fractions(formulas).astype(np.float32)
    if representation == "magpie":
        return magpie_from_formulas(formulas).astype(np.float32)
    if representation not in FROM_STRUCTURE:
        known = ", ".join((*FROM_FORMULA, *FROM_STRUCTURE))
        raise InputError(f"unknown representation {representation!r}; choose one of {known}")
    if structural is None or len(structural) != len(formulas):
        raise InputError(f"{representation} needs structural attributes of every row; run `featurize voronoi` first")
    columns = np.asarray(structural, dtype=np.float32)
    if columns.shape != (len(formulas), N_STRUCTURAL):
        raise InputError(f"structural attributes are {N_STRUCTURAL} per row, not of shape {columns.shape}; featurize")
    if representation == "voronoi":
        return columns
    return np.concatenate([magpie_from_formulas(formulas).astype(np.float32), columns], axis=1)
