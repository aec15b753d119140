"""Decomposition energies as labels: what a fold learns does not know what it tests."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import InputError
from models.formula import parse_many
from models.relabel import decomposition_labels

FORMULAS = ["Na3Cl", "NaCl", "NaCl3", "K2O"]
FRACTIONS = parse_many(FORMULAS).fractions
ENERGIES = np.array([-0.6, -1.0, -0.3, -1.2])
LEARNT, TESTED = np.array([2, 0]), np.array([1])


def test_labels_by_hand() -> None:
    """Without NaCl: Na3Cl against Na - NaCl3 (-0.1), NaCl3 against Na3Cl - Cl (-0.2); NaCl against both (-0.45)."""
    labels = decomposition_labels(FRACTIONS, ENERGIES, LEARNT, TESTED, np.arange(4))
    np.testing.assert_allclose(labels[:3], [-0.5, -0.55, -0.1], atol=1e-12)
    assert np.isnan(labels[3])


def test_the_truth_takes_what_is_dealt_out_and_no_more() -> None:
    without = decomposition_labels(FRACTIONS, ENERGIES, LEARNT[1:], TESTED, np.array([0, 1]))
    assert without[0] == pytest.approx(-0.6)
    assert without[1] == pytest.approx(-0.6)  # against Na3Cl - Cl, -0.4: NaCl3 is not dealt out
    assert np.isnan(without[2:]).all()


@given(st.floats(-3.0, 1.0), st.floats(-3.0, 1.0))
def test_what_is_learnt_does_not_depend_on_what_is_tested(first: float, second: float) -> None:
    labels = [
        decomposition_labels(FRACTIONS, np.array([-0.6, energy, -0.3, -1.2]), LEARNT, TESTED, np.arange(4))
        for energy in (first, second)
    ]
    np.testing.assert_array_equal(labels[0][LEARNT], labels[1][LEARNT])
    assert labels[0][1] - labels[1][1] == pytest.approx(first - second, abs=1e-9)


def test_an_unused_row_may_lack_an_energy() -> None:
    energies = np.array([-0.6, -1.0, -0.3, np.nan])
    labels = decomposition_labels(FRACTIONS, energies, LEARNT, TESTED, np.arange(3))
    assert np.isfinite(labels[:3]).all()
    with pytest.raises(InputError, match="not finite"):
        decomposition_labels(FRACTIONS, energies, LEARNT, TESTED, np.arange(4))


def test_folds_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="both learnt from and tested"):
        decomposition_labels(FRACTIONS, ENERGIES, np.array([0, 1]), TESTED, np.arange(4))
    with pytest.raises(InputError, match="not dealt out"):
        decomposition_labels(FRACTIONS, ENERGIES, LEARNT, TESTED, np.array([0, 1]))
