from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from cubic_crystals import rocksalt
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.analysis.structure_prediction.substitution_probability import SubstitutionProbability
from pymatgen.core import Composition, Lattice, Species, Structure

from models.crystals import structure_json
from models.element_exchange import exchange_log_probabilities
from models.elements import ELEMENTS
from models.errors import InputError
from models.formula import parse_many
from models.hypothetical import COMPOUND, PROTOTYPE, Substitution, Templates, hypothetical_structure, substitutions

ROCKSALT = rocksalt(5.64, "Na", "Cl")
PEROVSKITE = Structure(
    Lattice.cubic(3.905),
    ["Sr", "Ti", "O", "O", "O"],
    [[0, 0, 0], [0.5] * 3, [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]],
)


@pytest.fixture(scope="module")
def mined() -> SubstitutionProbability:
    """The published probabilities as pymatgen has them, which takes seconds."""
    return SubstitutionProbability()


def known(**structures: Structure) -> Templates:
    names = list(structures)
    formulas = [one.composition.reduced_formula for one in structures.values()]
    texts = [structure_json(one) for one in structures.values()]
    return Templates.of_compounds(names, formulas, texts, np.arange(len(names), dtype=float))


def found(formula: str, *templates: Templates, n: int = 3) -> list[Substitution]:
    return substitutions(parse_many([formula]), templates, n)


# How readily elements are exchanged


def test_exchanges_of_an_element_with_one_charge_are_pymatgens(mined: SubstitutionProbability) -> None:
    table = exchange_log_probabilities()
    for new, old, charge in (("Na", "Li", 1), ("K", "Na", 1), ("S", "O", -2), ("Ca", "Mg", 2)):
        share = table[ELEMENTS.index(new), ELEMENTS.index(old)]
        assert math.exp(share) == pytest.approx(mined.cond_prob(Species(new, charge), Species(old, charge)), rel=0.02)
    assert (np.diag(table) == 0).all()
    assert np.isfinite(table).all()
    assert (table <= 0).all()


def test_oxidation_states_count_as_often_as_they_occur(mined: SubstitutionProbability) -> None:
    """By hand, for copper: sum over its ions of exp(lambda), over the sum of their frequencies."""
    copper = [ion for ion in mined.species if ion.symbol == "Cu" and ion.oxi_state]
    assert len(copper) > 1
    weights = [math.exp(mined.get_lambda(Species("Zn", ion.oxi_state), ion)) for ion in copper]
    expected = sum(weights) / sum(mined.get_px(ion) for ion in copper)
    found = exchange_log_probabilities()[ELEMENTS.index("Zn"), ELEMENTS.index("Cu")]
    assert math.exp(found) == pytest.approx(expected)


# Which template


def test_elements_go_where_they_are_alike() -> None:
    (way,) = found("CaTiO3", known(perovskite=PEROVSKITE))
    assert way.exchanged == {"Sr": "Ca", "Ti": "Ti", "O": "O"}
    assert (way.identifier, way.kind) == ("perovskite", COMPOUND)
    table = exchange_log_probabilities()
    assert way.log10_probability == pytest.approx(table[ELEMENTS.index("Ca"), ELEMENTS.index("Sr")] / math.log(10))


def test_the_likeliest_come_first_and_lower_ones_of_the_equally_likely() -> None:
    lithium = ROCKSALT.copy()
    lithium.replace_species({"Na": "Li"})
    cesium = Structure(Lattice.cubic(4.1), ["Cs", "Cl"], [[0, 0, 0], [0.5] * 3])
    templates = known(first=ROCKSALT, second=ROCKSALT, lithium=lithium, cesium=cesium)
    names = [way.identifier for way in found("KCl", templates, n=9)]
    table = exchange_log_probabilities()[ELEMENTS.index("K")]
    by_hand = sorted(["Na", "Li", "Cs"], key=lambda old: -table[ELEMENTS.index(old)])
    blocks = {"Na": ["first", "second"], "Li": ["lithium"], "Cs": ["cesium"]}
    assert names == [name for old in by_hand for name in blocks[old]]
    for n in (1, 2, 3):
        assert [way.identifier for way in found("KCl", templates, n=n)] == names[:n]


def test_a_compound_comes_before_an_equal_prototype() -> None:
    prototypes = Templates.of_prototypes()
    ways = found("KCl", known(sodium=ROCKSALT), prototypes, n=20)
    tied = [way for way in ways if way.exchanged == {"Na": "K", "Cl": "Cl"}]
    assert [way.kind for way in tied][:2] == [COMPOUND, PROTOTYPE]
    assert any("B1" in way.identifier for way in tied)


def test_what_lies_too_high_is_known_but_no_template() -> None:
    texts = [structure_json(ROCKSALT), structure_json(ROCKSALT)]
    templates = Templates.of_compounds(["low", "high"], ["NaCl", "LiCl"], texts, np.array([0.0, 0.3]), limit=0.1)
    assert [way.identifier for way in found("KCl", templates)] == ["low"]
    with pytest.raises(InputError, match="its structure is known: high"):
        found("LiCl", templates)


@pytest.mark.parametrize(
    ("formula", "reason"),
    [
        ("NaCl", "its structure is known: sodium"),
        ("Na2Cl2", "its structure is known: sodium"),
        ("K2Cl7", "no known structure has its stoichiometry"),
        ("Xx", "Xx"),
    ],
)
def test_what_has_no_template_says_why(formula: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        found(formula, known(sodium=ROCKSALT))


@given(
    st.permutations(["Li", "Mg", "Al", "O", "F"]).map(lambda order: order[:3]),
    st.sampled_from([(1, 1, 1), (1, 1, 3), (1, 2, 4), (2, 1, 4), (1, 1, 2)]),
)
@settings(max_examples=25)
def test_every_substitution_has_the_composition(elements: list[str], amounts: tuple[int, ...]) -> None:
    formula = "".join(f"{element}{n}" for element, n in zip(elements, amounts, strict=True))
    for way in found(formula, Templates.of_prototypes(), n=2):
        structure = hypothetical_structure(way)
        assert structure.composition.reduced_composition == Composition(formula).reduced_composition
        assert sorted(way.exchanged.values()) == sorted(elements)


# The structure


def test_the_volume_follows_from_the_radii() -> None:
    """Rocksalts of the alkalis: potassium chloride has 31.2, sodium fluoride 12.4 cubic Angstrom an atom (measured)."""
    for formula, measured in (("KCl", 31.2), ("NaF", 12.4)):
        (way,) = found(formula, known(sodium=ROCKSALT))
        structure = hypothetical_structure(way)
        assert structure.volume / len(structure) == pytest.approx(measured, rel=0.08)
        assert StructureMatcher().fit_anonymous(structure, ROCKSALT)
    shannon = (1.52 + 1.67) / (1.16 + 1.67)  # pymatgen's radii, crystal radii of six neighbours
    (way,) = found("KCl", known(sodium=ROCKSALT))
    assert hypothetical_structure(way).volume / ROCKSALT.volume == pytest.approx(shannon**3, rel=1e-6)


def test_what_cannot_be_used_says_why() -> None:
    (way,) = found("KCl", known(sodium=ROCKSALT))
    with pytest.raises(InputError, match="sodium has 8 sites, more than 4"):
        hypothetical_structure(way, max_sites=4)
    broken = replace(way, structure="no structure")
    with pytest.raises(InputError, match="the structure of sodium cannot be used"):
        hypothetical_structure(broken)
    for other in (PEROVSKITE, Structure(Lattice.cubic(4), ["Na", "Na", "Cl"], [[0, 0, 0], [0.5] * 3, [0.5, 0.5, 0]])):
        with pytest.raises(InputError, match="the structure of sodium is not of its formula"):
            hypothetical_structure(replace(way, structure=structure_json(other)))
    noble = replace(way, exchanged={"Na": "Kr", "Cl": "Cl"}, formula="KrCl")
    with pytest.raises(InputError, match="has no radius"):
        hypothetical_structure(noble)
