"""The AFLOW prototypes load, and decorate as they should."""

from __future__ import annotations

import pytest
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

from models.families import FAMILIES
from models.prototypes import load_prototypes


def test_library_loads_with_unique_keys_and_small_cells() -> None:
    library = load_prototypes()
    assert len(library) > 200
    assert all(key == prototype.key for key, prototype in library.items())
    assert max(prototype.n_sites for prototype in library.values()) <= 20
    assert len(load_prototypes(4)) < len(library)


@pytest.mark.parametrize(
    ("key", "counts"),
    [
        ("AB_cF8_225_a_b:B1", (1, 1)),
        ("AB3C_cP5_221_a_c_b:E2_1", (1, 1, 3)),
        ("A2BC4_cF56_227_d_a_e:H1_1", (2, 4, 8)),
        ("A6B2C_cF36_225_e_c_a:J1_1", (1, 2, 6)),
        ("AB4C_tI24_88_b_f_a:H0_4", (2, 2, 8)),
    ],
)
def test_known_prototypes(key: str, counts: tuple[int, ...]) -> None:
    assert tuple(sorted(load_prototypes()[key].counts)) == counts


def test_label_and_symmetry_agree_for_every_prototype_in_use() -> None:
    library = load_prototypes()
    used = {key for family in FAMILIES for key in family.prototypes}
    for key in sorted(used):
        prototype = library[key]
        found = SpacegroupAnalyzer(prototype.structure, symprec=0.05).get_space_group_number()
        assert found == prototype.spacegroup_number, key


def test_decorate_puts_elements_on_slots() -> None:
    fluorite = load_prototypes()["AB2_cF12_225_a_c:C1"]
    assert fluorite.slots == ("Ca", "F")
    assert fluorite.decorate(("O", "Li")).composition.reduced_formula == "Li2O"
    with pytest.raises(ValueError, match="2 slots"):
        fluorite.decorate(("O",))
