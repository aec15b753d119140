"""Reading structures and the Voronoi volume ratio."""

from __future__ import annotations

import os
from pathlib import Path

import cubic_crystals
import numpy as np
import pandas as pd
import pytest
from pymatgen.analysis.local_env import VoronoiNN
from pymatgen.core import Lattice, Structure
from pymatgen.io.vasp import Poscar
from scipy.spatial import QhullError

from models.electrodeposition import LITHIUM, StabilityConstants
from models.errors import InputError
from models.structures import parse_structure, parse_structures
from models.volume_ratio import (
    coordination_numbers,
    shannon_fit,
    shannon_voronoi_ratio,
    volume_ratio_from_coordination,
    volume_ratios,
)

REFERENCE = Path(os.environ.get("ELEMSCREEN_REFERENCE_DATA", Path(__file__).parents[3] / "shared" / "data"))


def rocksalt(a: float = 4.03, cation: str = "Li", anion: str = "F") -> Structure:
    return cubic_crystals.rocksalt(a, cation, anion)


def antifluorite(a: float = 5.71) -> Structure:
    return cubic_crystals.antifluorite(a, "Li", "S")


def shaken(structure: Structure, seed: int = 0) -> Structure:
    rng = np.random.default_rng(seed)
    moved = structure.frac_coords + rng.normal(0, 0.02, (len(structure), 3))
    return Structure(structure.lattice, structure.species, moved)


# --- reading


def test_every_format_gives_the_same_structure():
    original = rocksalt()
    for text in (original.to(fmt="cif"), original.to_json(), Poscar(original).get_str()):
        read = parse_structure(text)
        assert read.composition == original.composition
        assert read.volume == pytest.approx(original.volume, rel=1e-5)


DISORDERED = Structure(Lattice.cubic(4), [{"Li": 0.5, "Na": 0.5}], [[0, 0, 0]])
OVERLAPPING = Structure(Lattice.cubic(4), ["Li", "F"], [[0, 0, 0], [0, 0, 0.05]])
CIF_OVERLAP = """data_x
_cell_length_a 4
_cell_length_b 4
_cell_length_c 4
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
Li1 Li 0 0 0
F1 F 0 0 0
"""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "missing"),
        (None, "missing"),
        (float("nan"), "missing"),
        ("garbage", "no line|no CIF"),
        ("{broken json", "cannot be read as pymatgen JSON"),
        ('{"a": 1}', "no lattice"),
        ("data_x\n_cell_length_a 4\n", "cannot be read as CIF"),
        (CIF_OVERLAP, "structure"),
        (DISORDERED.to_json(), "disordered"),
        (OVERLAPPING.to_json(), "overlapping"),
        (Structure(Lattice.cubic(4), [], []).to_json(), "no atoms|cannot be read"),
        (Structure(Lattice.cubic(4), ["X0+"], [[0, 0, 0]]).to_json(), "dummy"),
        ("x\n1.0\n4 0 0\n0 4 0\n0 0 4\n1 1\nDirect\n0 0 0\n.5 .5 .5\n", "element symbols"),
        (Structure(Lattice.from_parameters(4, 4, 4, 90, 90, 0.01), ["Li"], [[0, 0, 0]]).to_json(), "structure"),
    ],
)
def test_unusable_structures_are_refused_in_one_line(text, message):
    with pytest.raises(InputError, match=message) as error:
        parse_structure(text)
    assert "\n" not in str(error.value)


def test_large_cells_are_refused():
    big = rocksalt()
    big.make_supercell(6)
    with pytest.raises(InputError, match="1728 sites"):
        parse_structure(big.to_json())


def test_many_structures_keep_their_rows():
    structures, reasons = parse_structures([rocksalt().to_json(), "garbage", antifluorite().to(fmt="cif")])
    assert [s is None for s in structures] == [False, True, False]
    assert [r is None for r in reasons] == [True, False, True]


# --- volume ratio


def test_fit_of_shannon_radii():
    slope, intercept = shannon_fit("Li")
    assert slope == pytest.approx(0.0825, abs=1e-9)
    assert intercept == pytest.approx(0.261667, abs=1e-6)
    assert volume_ratio_from_coordination(6.0) == pytest.approx(0.084067, abs=1e-5)


def test_coordination_of_rocksalt_and_antifluorite():
    assert coordination_numbers(rocksalt()) == pytest.approx([6.0] * 4)
    assert coordination_numbers(antifluorite())[0] > 4


@pytest.mark.parametrize("structure", [rocksalt(), antifluorite(), shaken(rocksalt()), shaken(antifluorite(), 1)])
def test_agrees_with_pymatgen(structure):
    oracle = VoronoiNN(weight="solid_angle", allow_pathological=True)
    sites = [i for i, site in enumerate(structure) if site.specie.symbol == "Li"]
    expected = [oracle.get_cn(structure, i, use_weights=True) for i in sites]
    assert coordination_numbers(structure) == pytest.approx(expected, abs=1e-6)


def test_long_thin_cell_and_supercell_agree_with_the_primitive_cell():
    single = shannon_voronoi_ratio(antifluorite())
    long = antifluorite()
    long.make_supercell([1, 1, 3])
    assert shannon_voronoi_ratio(long) == pytest.approx(single, rel=1e-9)
    assert shannon_voronoi_ratio(antifluorite().get_primitive_structure()) == pytest.approx(single, rel=1e-6)


def test_layers_far_apart_need_a_wider_search():
    layer = Structure(Lattice.tetragonal(3.0, 25.0), ["Li", "F"], [[0, 0, 0], [0.5, 0.5, 0.0]])
    oracle = VoronoiNN(weight="solid_angle", cutoff=60)
    assert coordination_numbers(layer)[0] == pytest.approx(oracle.get_cn(layer, 0, use_weights=True), rel=1e-6)


def test_failures_are_reasons():
    vacuum = Structure(Lattice.cubic(100.0), ["Li"], [[0, 0, 0]])
    large = rocksalt()
    large.make_supercell(4)
    steps: list[int] = []
    result = volume_ratios([rocksalt(), rocksalt(cation="Na"), None, vacuum, large], progress=steps.append)
    assert steps == [1, 2, 3, 4, 5]
    assert np.isfinite(result.values).tolist() == [True, False, False, False, False]
    assert result.reasons[0] is None
    for reason, words in zip(result.reasons[1:], ("no Li", "missing", "not closed", "512 sites"), strict=True):
        assert words in reason


def test_estimator_is_exchangeable_and_its_failures_are_reasons():
    def estimator(structure: Structure, constants: StabilityConstants) -> float:
        if len(structure) < 10:
            raise QhullError("QH6154 initial simplex is flat")
        return constants.molar_volume

    large = rocksalt()
    large.make_supercell([2, 1, 1])
    result = volume_ratios([large, rocksalt()], estimator=estimator)
    assert result.values[0] == LITHIUM.molar_volume
    assert "tessellation failed" in result.reasons[1]


def test_metal_without_radii():
    sodium = StabilityConstants(metal="Ag")
    with pytest.raises(InputError, match="no ionic radii for Ag"):
        shannon_voronoi_ratio(rocksalt(cation="Na"), sodium)


# --- the published values


def reference(name: str) -> pd.DataFrame:
    path = REFERENCE / f"{name}.parquet"
    if not path.exists():
        pytest.skip(f"reference data absent: {path}")
    return pd.read_parquet(path)


@pytest.mark.reference_data
def test_named_compounds_match_the_published_values():
    published = reference("electrodeposition_isotropic").set_index("material_id")["volume_ratio"]
    table = reference("lithium_structures").set_index("material_id")
    for identifier in ("mp-1138", "mp-1153", "mp-2251", "mp-1960", "mp-13725", "mp-23856"):
        if identifier in table.index:
            ratio = shannon_voronoi_ratio(parse_structure(table.loc[identifier, "cif"]))
            assert ratio == pytest.approx(published[identifier], rel=1e-4), identifier


@pytest.mark.reference_data
def test_a_sample_matches_the_published_values():
    table = reference("lithium_structures").merge(reference("electrodeposition_isotropic"), on="material_id")
    sample = table.sample(60, random_state=0)
    structures, reasons = parse_structures(sample["cif"].tolist())
    assert reasons == [None] * 60
    result = volume_ratios(structures)
    assert np.abs(result.values / sample["volume_ratio"].to_numpy() - 1).max() < 5e-4
