"""Interfaces of a table's crystals: frames, reasons, and what the columns hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from cubic_crystals import rocksalt

from models.crystal_stability import InterfaceParameters
from models.crystals import structure_json
from models.elasticity import isotropic_tensor
from models.errors import InputError
from models.volume_ratio import shannon_voronoi_ratio
from tasks.interface_table import interface_table

SALT = rocksalt(5.13, "Li", "Cl")
CUBIC = isotropic_tensor(30, 18)
CUBIC[[3, 4, 5], [3, 4, 5]] = 24.5


def table_of(folder: Path, rows: list[dict[str, Any]]) -> str:
    path = folder / "crystals.parquet"
    pd.DataFrame(rows).to_parquet(path)
    return str(path)


def test_every_crystal_has_interfaces_or_a_reason(tmp_path: Path) -> None:
    good = {"formula": "LiCl", "structure": structure_json(SALT), "elastic_tensor": json.dumps(CUBIC.tolist())}
    lopsided = CUBIC + np.diag([9.0, 0, 0, 0, 0, 0])
    rows = [
        good | {"material_id": "a"},
        good | {"material_id": "b", "elastic_tensor": json.dumps(lopsided.tolist())},
        good | {"material_id": "c", "elastic_tensor": None},
        good | {"material_id": "d", "structure": "nothing of use"},
        good | {"material_id": "e", "elastic_tensor": json.dumps((-CUBIC).tolist())},
        good | {"material_id": "f", "structure": structure_json(SALT.copy().replace_species({"Li": "Na"}))},
    ]
    said = interface_table(str(tmp_path / "store"), table_of(tmp_path, rows)).table.to_pandas()
    reasons = said.dropna(subset=["reason"]).set_index("material_id")["reason"].to_dict()
    words = {"b": "Fm-3m", "c": "missing", "d": "structure is no CIF", "e": "positive definite", "f": "Li"}
    assert set(reasons) == set(words)
    for name, word in words.items():
        assert word in reasons[name]
    judged = said[said["reason"].isna()]
    assert set(judged["material_id"]) == {"a"}
    assert len(judged) == 52
    assert judged["volume_ratio"].to_numpy() == pytest.approx(shannon_voronoi_ratio(SALT))
    assert (judged["chi_best_direction"] <= judged["chi"]).all()
    assert not judged["stable"].any()
    for row in judged.itertuples():
        assert len(row.chi_by_direction) == 36
        assert np.linalg.norm(row.electrolyte_wave) == pytest.approx(1)
        assert max(row.chi_by_direction) == pytest.approx(row.chi)


def test_the_published_convention_takes_no_cell_of_its_own_making(tmp_path: Path) -> None:
    """It turns on which vector is b: a structure, whose cell may name them otherwise, is not enough."""
    row = {"formula": "LiCl", "elastic_tensor": json.dumps(CUBIC.tolist()), "structure": structure_json(SALT)}
    path = tmp_path / "in.jsonl"
    path.write_text("\n".join(json.dumps(one) for one in (row, row | {"lattice": "[[5, 0, 0], [0, 5, 0], [0, 0, 5]]"})))
    made = interface_table(str(tmp_path / "store"), str(path), InterfaceParameters(convention="published"))
    table = made.table.to_pandas()
    assert table["reason"].iloc[0].startswith("lattice is missing")
    assert table["chi"].notna().tolist() == [False] + [True] * 28


def test_corrected_moduli_correct_the_tensor(tmp_path: Path) -> None:
    """A potential's soft tensor, stable as it was computed, beside moduli that were corrected to be stiff."""
    soft = {"volume_ratio": 0.1, "elastic_tensor": json.dumps(isotropic_tensor(3.0, 1.5).tolist())}
    soft |= {"lattice": "[[4, 0, 0], [0, 4, 0], [0, 0, 4]]", "bulk_modulus_vrh": 3.0, "shear_modulus_vrh": 1.5}
    stiff = {"bulk_modulus_vrh": 30.0, "shear_modulus_vrh": 15.0}
    raw = {"bulk_modulus_vrh_raw": 3.0, "shear_modulus_vrh_raw": 1.5}
    rows = [soft | {"formula": "Li2S"}, soft | raw | stiff | {"formula": "Li2Se"}, soft | raw | {"formula": "Li2Te"}]
    said = interface_table(str(tmp_path / "store"), table_of(tmp_path, rows)).table.to_pandas().set_index("formula")
    assert said.loc["Li2S", "stable"].any()
    assert not said.loc["Li2Se", "stable"].any()
    by_hand = interface_table(
        str(tmp_path / "store"),
        table_of(tmp_path, [soft | {"elastic_tensor": json.dumps(isotropic_tensor(30.0, 15.0).tolist())}]),
    ).table.to_pandas()
    np.testing.assert_allclose(said.loc["Li2Se", "chi"], by_hand["chi"], rtol=1e-9)
    # corrected by nothing: the same chi, with the error of such moduli
    np.testing.assert_allclose(said.loc["Li2Te", "chi"], said.loc["Li2S", "chi"], rtol=1e-9)
    less_sure = said.loc["Li2Te", "probability_stable"].to_numpy() < said.loc["Li2S", "probability_stable"].to_numpy()
    assert less_sure.any()


def test_a_lattice_states_the_frame(tmp_path: Path) -> None:
    row = {"volume_ratio": 0.1, "elastic_tensor": json.dumps(CUBIC.tolist())}
    rows = [
        row | {"lattice": json.dumps((5.13 * np.eye(3)).tolist())},
        row | {"lattice": "[[1, 0, 0], [2, 0, 0], [0, 0, 1]]"},
        row | {"lattice": "[[1, 0], [2, 0]]"},
    ]
    said = interface_table(str(tmp_path / "store"), table_of(tmp_path, rows)).table.to_pandas()
    assert set(said["frame"].dropna()) == {"stated"}
    assert said["reason"].dropna().str.contains("rows a, b, c").tolist() == [True, True]


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        (["structure"], "no column 'elastic_tensor'"),
        (["elastic_tensor"], "neither 'structure' nor 'lattice'"),
        (["elastic_tensor", "lattice"], "neither 'structure' nor 'volume_ratio'"),
    ],
)
def test_tables_of_no_use(tmp_path: Path, columns: list[str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        interface_table(str(tmp_path / "store"), table_of(tmp_path, [dict.fromkeys(columns, "x")]))
