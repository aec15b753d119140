"""The audit of elemental references: what it must find, and what it must leave alone."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from models.elemental_references import apply_references, audit_references, element_corrections, neighbours
from models.elements import ELEMENT_INDEX, ELEMENTS
from models.errors import InputError
from models.features import element_fractions
from models.formula import parse_many

FILE = Path(os.environ.get("ELEMSCREEN_REFERENCE_DATA", Path(__file__).parents[3] / "shared" / "data"))
FILE = FILE / "oqmd_formation_energy.parquet"


def table(shift: dict[tuple[str, str], float], elemental_rows: bool = True) -> pd.DataFrame:
    """Compounds whose energies change smoothly along a row and unevenly down a group, with shifted references.

    Parameters
    ----------
    shift : dict
        (element, release) to eV per atom of the element.
    """
    rng = np.random.default_rng(8)
    families = {
        "lanthanides": ["La", "Ce", "Pr", "Nd", "Sm", "Gd", "Tb", "Dy", "Ho", "Er", "Tm", "Lu"],
        "alkalis": ["Li", "Na", "K", "Rb", "Cs"],
        "halides": ["F", "Cl", "Br", "I"],
        "pnictides": ["N", "P", "As", "Sb", "Bi"],
    }
    rows = []
    for family, members in families.items():
        partners = [e for e in ELEMENTS if e not in members][5:45]
        for position, element in enumerate(members):
            for partner in partners:
                for a, b in ((1, 1), (1, 2), (3, 1)):
                    trend = 0.01 * position if family == "lanthanides" else 0.5 * position * (1 + hash_of(partner))
                    base = -1.0 + 0.5 * hash_of(partner + str(a)) + trend * a / (a + b)
                    for release in ("old", "new"):
                        rows.append((f"{element}{a}{partner}{b}", base + rng.normal(0, 0.01), release))
            if elemental_rows:
                rows += [(element, 0.0, "old"), (element, 0.0, "new")]
    frame = pd.DataFrame(rows, columns=["formula", "formation_energy_per_atom", "release"])
    fractions = parse_many(frame["formula"]).fractions
    for (element, release), size in shift.items():
        frame["formation_energy_per_atom"] += (
            size * fractions[:, ELEMENT_INDEX[element]] * (frame["release"] == release)
        )
    return frame


def hash_of(text: str) -> float:
    """Number in [0, 1) that depends on the text only."""
    return sum(map(ord, text)) * 0.618 % 1.0


def corrected(references: pd.DataFrame) -> dict[tuple[str, str], float]:
    found = references[references["reference_correction"] != 0]
    return {(r.element, r.release): r.reference_correction for r in found.itertuples()}


def test_nothing_to_find() -> None:
    references = audit_references(table({}))
    assert corrected(references) == {}
    assert {"La", "Tb", "K", "Br"} <= set(references["element"])


@pytest.mark.parametrize("element", ["Tb", "Pr", "Er"])
@pytest.mark.parametrize("size", [0.66, -0.5])
def test_finds_a_shifted_reference_in_its_release_only(element: str, size: float) -> None:
    found = corrected(audit_references(table({(element, "new"): size})))
    assert found == {(element, "new"): pytest.approx(size, abs=1e-9)}  # the elemental row has the exact value


def test_measures_the_shift_without_an_elemental_row() -> None:
    found = corrected(audit_references(table({("Tb", "new"): 0.66}, elemental_rows=False)))
    assert found == {("Tb", "new"): pytest.approx(0.66, abs=0.01)}


def test_small_shifts_and_bare_elemental_rows_are_left_alone() -> None:
    assert corrected(audit_references(table({("Tb", "new"): 0.2}))) == {}
    frame = table({})
    frame.loc[frame["formula"] == "Tb", "formation_energy_per_atom"] = 0.66  # its compounds do not agree
    assert corrected(audit_references(frame)) == {}


def test_one_neighbour_needs_the_elemental_row() -> None:
    # what F lacks against Cl is chemistry as long as fluorine's own row says 0
    assert ("F", "new") not in corrected(audit_references(table({})))
    assert neighbours("F") == ("Cl",)


def test_applying_takes_the_shift_off_and_keeps_the_raw_value() -> None:
    right, wrong = table({}), table({("Tb", "new"): 0.66})
    references = audit_references(wrong)
    mended = apply_references(wrong, references)
    np.testing.assert_allclose(mended["formation_energy_per_atom"], right["formation_energy_per_atom"], atol=1e-9)
    np.testing.assert_array_equal(mended["formation_energy_raw"], wrong["formation_energy_per_atom"])
    np.testing.assert_allclose(
        mended["formation_energy_raw"] - mended["reference_correction"], mended["formation_energy_per_atom"]
    )
    assert (mended["reference_correction"] != 0).sum() == 121  # 40 partners x 3 stoichiometries, and Tb itself
    pd.testing.assert_frame_equal(apply_references(mended, references), mended)
    assert corrected(audit_references(mended)) == {}


def test_tables_without_releases() -> None:
    frame = table({("Tb", "old"): 0.66, ("Tb", "new"): 0.66}).drop(columns="release")
    references = audit_references(frame)
    assert references["release"].isna().all()
    assert corrected(references) == {("Tb", None): pytest.approx(0.66)}
    mended = apply_references(frame, references)
    assert mended.loc[mended["formula"] == "Tb", "formation_energy_per_atom"].abs().max() < 1e-9


def test_correction_of_predictions() -> None:
    corrections = element_corrections(audit_references(table({("Tb", "old"): 0.66, ("Tb", "new"): 0.66})))
    assert np.flatnonzero(corrections).tolist() == [ELEMENT_INDEX["Tb"]]
    assert element_fractions(["TbN", "LaN"]) @ corrections == pytest.approx([0.33, 0.0])


def test_rows_that_cannot_be_used_are_ignored() -> None:
    frame = pd.DataFrame(
        {"formula": ["Xx", "NaCl", None, "KCl"], "formation_energy_per_atom": [1.0, np.nan, 0.0, 40.0]}
    )
    references = audit_references(frame)
    assert len(references) == 0
    assert apply_references(frame, references)["reference_correction"].tolist() == [0.0] * 4
    with pytest.raises(InputError, match="formula is missing"):
        audit_references(frame.drop(columns="formula"))
    with pytest.raises(InputError, match="parsed"):
        audit_references(frame, parsed=parse_many(["NaCl"]))


def test_neighbours() -> None:
    assert neighbours("Tb") == ("Gd", "Dy")
    assert neighbours("Sm") == ("Pm", "Gd")  # Eu is divalent
    assert neighbours("Eu") == ("Sr", "Yb")
    assert neighbours("Ca") == ("Mg", "Sr")
    assert neighbours("Hg") == ("Cd",)
    assert neighbours("H") == ()
    assert all(n in ELEMENTS for e in ELEMENTS for n in neighbours(e))


@pytest.mark.reference_data
@pytest.mark.skipif(not FILE.exists(), reason=f"needs {FILE.name}; set ELEMSCREEN_REFERENCE_DATA to its folder")
def test_terbium_and_nothing_else_in_the_real_file() -> None:
    references = audit_references(pd.read_parquet(FILE))
    found = corrected(references)
    assert found == {
        ("Tb", "oqmd-2017"): pytest.approx(0.6584, abs=1e-3),
        ("Tb", "oqmd-2018"): pytest.approx(0.6584, abs=1e-3),
    }
    terbium = references[references["element"] == "Tb"].set_index("release")
    assert terbium.loc["oqmd-2015", "shift"] == pytest.approx(0.0, abs=0.02)
    assert terbium.loc["oqmd-2017", "shift"] == pytest.approx(0.657, abs=0.01)
    assert terbium.loc["oqmd-2018", "shift"] == pytest.approx(0.658, abs=0.01)
