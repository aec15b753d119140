"""Structural attributes: matminer's values in a fixed order, known crystals, refusals."""

from __future__ import annotations

import math
import warnings

import cubic_crystals
import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from models.crystals import structure_json
from models.errors import InputError
from models.structural_attributes import (
    STRUCTURAL_NAMES,
    _featurizers,
    attributes_of_text,
    structural_attributes,
)


def rocksalt(a: float = 5.64) -> Structure:
    return cubic_crystals.rocksalt(a, "Na", "Cl").get_primitive_structure()


def rutile() -> Structure:
    places = [[0, 0, 0], [0.305, 0.305, 0]]
    return Structure.from_spacegroup("P4_2/mnm", Lattice.tetragonal(4.594, 2.959), ["Ti", "O"], places)


def value(attributes: np.ndarray, name: str) -> float:
    return float(attributes[STRUCTURAL_NAMES.index(name)])


def test_names_are_wards_126() -> None:
    assert len(STRUCTURAL_NAMES) == len(set(STRUCTURAL_NAMES)) == 126
    theirs = [name for featurizer in _featurizers() for name in featurizer.feature_labels()]
    assert [name for name in theirs if name in STRUCTURAL_NAMES] == list(STRUCTURAL_NAMES)
    assert set(theirs) - set(STRUCTURAL_NAMES) == {"range neighbor distance variation", "range CN_VoronoiNN"}


def test_rocksalt_by_hand() -> None:
    """Six unlike neighbours at a/2; touching spheres of a quarter of the edge fill pi/6 of the cell."""
    attributes = structural_attributes(rocksalt())
    assert value(attributes, "mean CN_VoronoiNN") == pytest.approx(6)
    assert value(attributes, "max relative bond length") == pytest.approx(1)
    assert value(attributes, "mean neighbor distance variation") == pytest.approx(0, abs=1e-9)
    assert value(attributes, "max packing efficiency") == pytest.approx(math.pi / 6)
    assert value(attributes, "mean ordering parameter shell 1") == pytest.approx(1)
    assert value(attributes, "mean local difference in Number") == pytest.approx(17 - 11)
    assert value(attributes, "mean local difference in Electronegativity") == pytest.approx(3.16 - 0.93)


def test_values_are_matminers() -> None:
    from matminer.featurizers.base import MultipleFeaturizer

    together = MultipleFeaturizer(list(_featurizers()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = dict(zip(together.feature_labels(), together.featurize(rutile()), strict=True))
    np.testing.assert_array_equal(structural_attributes(rutile()), [theirs[name] for name in STRUCTURAL_NAMES])


def test_scale_and_supercell_do_not_matter() -> None:
    expected = structural_attributes(rutile())
    larger = rutile()
    larger.scale_lattice(2 * larger.volume)
    np.testing.assert_allclose(structural_attributes(larger), expected, atol=1e-6)
    np.testing.assert_allclose(structural_attributes(rutile() * (1, 1, 2)), expected, atol=1e-6)


def test_an_almost_equal_crystal_before_it_changes_nothing() -> None:
    """Matminer would take the neighbours of the crystal before, which pymatgen calls equal."""
    near = rutile()
    near.translate_sites([2], [3e-6, 0, 0], frac_coords=False, to_unit_cell=False)
    assert near == rutile()
    alone = structural_attributes(near)
    structural_attributes(rutile())
    np.testing.assert_array_equal(structural_attributes(near), alone)
    assert (alone != structural_attributes(rutile())).any()


def test_oxidation_states_are_ignored_and_the_structure_is_left_alone() -> None:
    charged = rutile()
    charged.add_oxidation_state_by_element({"Ti": 4, "O": -2})
    before = charged.copy()
    np.testing.assert_array_equal(structural_attributes(charged), structural_attributes(rutile()))
    assert charged == before
    np.testing.assert_array_equal(attributes_of_text(structure_json(rocksalt())), structural_attributes(rocksalt()))


@pytest.mark.parametrize(
    ("structure", "said"),
    [
        (Structure(Lattice.cubic(4), [{"Na": 0.5, "K": 0.5}], [[0, 0, 0]]), "disordered"),
        (Structure(Lattice.cubic(4), [], []), "no atoms"),
        (Structure(Lattice.cubic(4), ["Na", "Cl"], [[0, 0, 0], [0.01, 0, 0]]), "overlapping"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(structure: Structure, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        structural_attributes(structure)
    assert "\n" not in str(caught.value)


class Odd:
    """A featurizer that fails, or gives a NaN, as matminer's do on tessellations that do not close."""

    def __init__(self, error: Exception | None) -> None:
        self.error = error

    def featurize(self, structure: Structure) -> list[float]:
        if self.error is not None:
            raise self.error
        return [1.0] * 127 + [math.nan]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (KeyError(3), r"no Voronoi attributes \(3\)"),
        (RuntimeError("QH6214\nnot enough points"), "QH6214 not enough points"),
        (None, "no finite 'avg_dev CN_VoronoiNN'"),
    ],
)
def test_what_matminer_cannot_do_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch, error: Exception | None, said: str
) -> None:
    monkeypatch.setattr("models.structural_attributes._featurizers", lambda: (Odd(error),))
    with pytest.raises(InputError, match=said) as caught:
        structural_attributes(rocksalt())
    assert "\n" not in str(caught.value)
