"""Likelihood of fast conduction: crystals by hand, a brute force, and measured conductivities."""

from __future__ import annotations

from pathlib import Path

import cubic_crystals
import numpy as np
import pandas as pd
import pytest
from pymatgen.core import Element, Lattice, Structure
from sklearn.metrics import roc_auc_score

from models.errors import InputError
from models.structures import parse_structures
from models.superionic import ConductorFeatures, conductor_features, superionic_likelihoods


def rocksalt(a: float = 5.0, anion: str = "Cl") -> Structure:
    return cubic_crystals.rocksalt(a, "Li", anion)


def test_rocksalt_by_hand() -> None:
    """Twelve atoms of the own kind at 3.54 A, six of the other at 2.5 A; bonds of Cl with Cl have no ionicity."""
    found = conductor_features(rocksalt())
    assert found.lithium_bonds == 12
    assert found.sublattice_ionicity == 0
    assert found.anion_coordination == 12
    assert found.lithium_anion_distance == pytest.approx(2.5)
    assert found.lithium_lithium_distance == pytest.approx(5 / 2**0.5)
    z = 0.18 * 12 - 0.47 * 12 + 8.70 * 2.5 - 2.17 * 5 / 2**0.5 - 6.56
    assert found.likelihood() == pytest.approx(1 / (1 + np.exp(-z)))


def test_a_small_cell_and_its_multiples_are_alike() -> None:
    cell = rocksalt().get_primitive_structure()
    one, many = conductor_features(cell), conductor_features(cell.make_supercell([2, 1, 3]))
    for name in ConductorFeatures.__dataclass_fields__:
        assert getattr(many, name) == pytest.approx(getattr(one, name))


def test_a_sublattice_of_two_elements_against_brute_force() -> None:
    structure = Structure.from_spacegroup(
        "Pm-3m", Lattice.cubic(3.9), ["Li", "O", "Cl"], [[0.5, 0.5, 0], [0.5] * 3, [0] * 3]
    )
    found = conductor_features(structure)
    differences, lithium = [], []
    images = [np.array([i, j, k]) for i in (-2, -1, 0, 1, 2) for j in (-2, -1, 0, 1, 2) for k in (-2, -1, 0, 1, 2)]
    for one in structure:
        for other in structure:
            for image in images:
                d = np.linalg.norm((other.frac_coords + image - one.frac_coords) @ structure.lattice.matrix)
                if not 1e-6 < d <= 4.0:
                    continue
                pair = (one.specie.symbol, other.specie.symbol)
                if "Li" not in pair:
                    differences.append(abs(Element(pair[0]).X - Element(pair[1]).X))
                elif pair == ("Li", "Li"):
                    lithium.append(d)
    assert found.sublattice_ionicity == pytest.approx(np.mean(differences))
    assert found.lithium_bonds == pytest.approx(len(lithium) / 3)
    assert found.lithium_anion_distance == pytest.approx(3.9 / 2)  # oxygen is the anion, not chlorine
    assert found.anion_coordination == 6  # its images at 3.9 A; the next are at 5.5 A


def test_failures_are_reasons() -> None:
    metal = Structure(Lattice.cubic(3.4), ["Li"], [[0] * 3])
    salt = rocksalt(anion="F")
    salt.replace_species({"Li": "Na"})
    values, reasons = superionic_likelihoods([rocksalt(), None, metal, salt])
    assert np.isfinite(values).tolist() == [True, False, False, False]
    assert reasons[0] is None
    assert [str(reason)[:20] for reason in reasons[1:]] == ["structure is missing"] + ["a likelihood of cond"] * 2
    with pytest.raises(InputError, match="apart"):
        conductor_features(Structure(Lattice.cubic(60.0), ["Li", "F"], [[0] * 3, [0.5] * 3]))


@pytest.mark.soak
@pytest.mark.reference_data
def test_it_orders_measured_conductivities_better_than_chance(reference_data: Path) -> None:
    rows = pd.read_parquet(reference_data / "lithium_conductivity.parquet")
    structures, _ = parse_structures([text if isinstance(text, str) else "" for text in rows["cif_text"]])
    values, _ = superionic_likelihoods(structures)
    measured = pd.to_numeric(rows["Ionic conductivity (S cm-1)"], errors="coerce").to_numpy(float)
    good = np.isfinite(values) & np.isfinite(measured)
    assert good.sum() == 58  # the others are disordered, or have no structure
    assert roc_auc_score(measured[good] > 1e-4, values[good]) == pytest.approx(0.93, abs=0.005)
