"""CHGNet behind the chunk functions; skipped without the extra."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pymatgen.core import Lattice, Structure

from models import selfbuilt
from models.decoration import candidates
from models.families import FAMILIES, Family

_spec = importlib.util.spec_from_file_location("toy_potential", Path(__file__).with_name("toy_potential.py"))
assert _spec is not None
assert _spec.loader is not None
toy = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(toy)


@pytest.fixture
def chgnet() -> None:
    pytest.importorskip("chgnet", reason="needs the extra: pip install 'elemscreen[selfbuilt]'")


@pytest.fixture(scope="module")
def chunk() -> pd.DataFrame:
    family = Family(
        *("tiny", (1, 1), 1, ("AB_cF8_225_a_b:B1", "AB_cP2_221_b_a:B2"), 0, 1),
        allowed=(("Li", "Na"), ("F", "Cl")),
    )
    return candidates(1, (family,))


def test_missing_package_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    selfbuilt._load.cache_clear()
    monkeypatch.setitem(sys.modules, "chgnet.model", None)
    with pytest.raises(selfbuilt.MissingPotentialError, match=r"pip install 'elemscreen\[selfbuilt\]'"):
        selfbuilt.potential_version()
    selfbuilt._load.cache_clear()


def test_chunk_functions_with_a_toy_potential(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selfbuilt, "evaluate", toy.evaluate)
    family = Family(
        *("toy", (1, 3), 0, ("AB3_cP4_221_a_c:L1_2", "A3B_tI8_139_bd_a:D0_22"), 1, 0),
        allowed=(("Au", "Pt"), ("Cu", "Ni")),
    )
    rows = candidates(3, (family,))
    static = selfbuilt.evaluate_static(rows)
    assert (static["pressure"].abs() < 30).all()
    selected = rows.assign(static_volume_per_atom=static["volume_per_atom"])
    relaxed = selfbuilt.relax(selected)
    assert relaxed["converged"].all()
    assert list(relaxed["candidate_id"]) == list(rows["candidate_id"])
    cubic = relaxed[(rows["prototype"] == "AB3_cP4_221_a_c:L1_2").to_numpy()].head(1)
    assert cubic["spacegroup_end"].iloc[0] == 221
    tensor = selfbuilt.tensors(cubic)
    stiffness = np.array(tensor["elastic_tensor"][0]).reshape(6, 6)
    assert tensor["converged"][0]
    assert stiffness[0, 0] == pytest.approx(stiffness[2, 2], rel=0.02)
    assert stiffness[0, 0] > stiffness[0, 1] > 0


@pytest.mark.usefixtures("chgnet")
def test_one_backward_pass_agrees_with_chgnet_itself() -> None:
    crystal = Structure.from_spacegroup(
        "Pm-3m", Lattice.cubic(3.9), ["Sr", "Ti", "O"], [[0, 0, 0], [0.5] * 3, [0.5, 0.5, 0]]
    )
    crystal.translate_sites([1], [0.01, 0.02, 0.0])
    other = Structure(Lattice.cubic(2.9), ["Fe", "Al"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    theirs = selfbuilt._load().predict_structure(crystal, task="efs")
    ours = selfbuilt.evaluate([other, crystal])[1]
    assert ours.energy / 5 == pytest.approx(float(theirs["e"]), abs=1e-5)
    np.testing.assert_allclose(ours.forces, theirs["f"], atol=1e-4)
    np.testing.assert_allclose(ours.stress * 160.21766208, theirs["s"], atol=5e-3)


@pytest.mark.usefixtures("chgnet")
def test_isolated_atoms_are_not_a_number() -> None:
    crystal = Structure(Lattice.cubic(12), ["Na"], [[0, 0, 0]])
    assert np.isnan(selfbuilt.evaluate([crystal])[0].energy)


@pytest.mark.usefixtures("chgnet")
def test_chunks_are_deterministic_and_sensible(chunk: pd.DataFrame) -> None:
    static = selfbuilt.evaluate_static(chunk)
    pd.testing.assert_frame_equal(static, selfbuilt.evaluate_static(chunk))
    selected = chunk.assign(static_volume_per_atom=static["volume_per_atom"])
    relaxed = selfbuilt.relax(selected)
    assert relaxed["converged"].all()
    assert (relaxed["spacegroup_start"] == relaxed["spacegroup_end"]).all()
    rocksalt = relaxed[chunk["prototype"].str.contains("B1").to_numpy()]
    assert rocksalt["energy_per_atom"].iloc[0] < relaxed["energy_per_atom"].max()
    tensor = selfbuilt.tensors(rocksalt)
    stiffness = np.array(tensor["elastic_tensor"][0]).reshape(6, 6)
    assert stiffness[0, 0] == pytest.approx(stiffness[1, 1], rel=0.02)
    assert tensor["n_evaluations"][0] >= 24


def test_families_name_known_prototypes_once() -> None:
    from models.prototypes import load_prototypes

    names = [family.name for family in FAMILIES]
    assert len(names) == len(set(names))
    for family in FAMILIES:
        assert family.prototypes
        assert set(family.prototypes) <= set(load_prototypes())
        assert len(family.allowed) == len(family.template)
