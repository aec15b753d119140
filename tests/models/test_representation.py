"""What networks read: each representation is the columns of its parts."""

from __future__ import annotations

import numpy as np
import pytest

from models.errors import FormulaError, InputError
from models.features import element_fractions
from models.magpie import magpie_from_formulas
from models.representation import FROM_FORMULA, FROM_STRUCTURE, N_STRUCTURAL, represent
from models.structural_attributes import STRUCTURAL_NAMES

FORMULAS = ["NaCl", "Li2O", "BaTiO3"]
STRUCTURAL = np.arange(3.0 * N_STRUCTURAL).reshape(3, N_STRUCTURAL)


def test_composition_alone() -> None:
    fractions = represent(FORMULAS, "element_fraction")
    assert np.array_equal(fractions, element_fractions(FORMULAS))
    assert represent(FORMULAS, "element_fraction", STRUCTURAL).tobytes() == fractions.tobytes()
    magpie = represent(FORMULAS, "magpie")
    assert np.array_equal(magpie, magpie_from_formulas(FORMULAS).astype(np.float32))
    for name, columns in FROM_FORMULA.items():
        assert represent(FORMULAS, name).shape == (3, columns)
        assert represent(FORMULAS, name).dtype == np.float32


def test_structures_beside_it() -> None:
    assert len(STRUCTURAL_NAMES) == N_STRUCTURAL
    voronoi, both = (represent(FORMULAS, name, STRUCTURAL) for name in FROM_STRUCTURE)
    assert np.array_equal(voronoi, STRUCTURAL)
    assert voronoi.dtype == both.dtype == np.float32
    assert np.array_equal(both, np.hstack([represent(FORMULAS, "magpie"), voronoi]))
    assert both.shape == (3, 271)


@pytest.mark.parametrize("name", FROM_STRUCTURE)
def test_structures_are_needed_of_every_row(name: str) -> None:
    for missing in (None, STRUCTURAL[:2]):
        with pytest.raises(InputError, match="structural attributes of every row"):
            represent(FORMULAS, name, missing)
    with pytest.raises(InputError, match=r"126 per row, not of shape \(3, 125\)"):
        represent(FORMULAS, name, STRUCTURAL[:, 1:])


def test_what_cannot_be_represented_is_refused() -> None:
    with pytest.raises(InputError, match=r"unknown representation 'soap'; choose one of element_fraction, magpie, vor"):
        represent(FORMULAS, "soap")
    with pytest.raises(FormulaError, match="row 1"):
        represent(["NaCl", "Qq2"], "element_fraction")
