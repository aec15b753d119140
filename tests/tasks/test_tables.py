"""Columns for a user's table, and what a user may give where a table is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.electrodeposition import stability_parameter
from models.errors import InputError
from storage.errors import ArtifactNotFound, SchemeMismatch, StoreError
from storage.scheme import EnergyScheme, with_scheme
from tasks.inputs import as_compounds, as_features, as_model, as_phases, as_table, table_names
from tasks.parameters import CleanParameters
from tasks.tables import hull_table, predict_table, stability_table, store_rows


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "table.parquet"


def test_predict_keeps_every_row_and_column(stages: Any, file: Path) -> None:
    pd.DataFrame({"formula": ["Li2O", "Qq", None, "LiF"], "mine": [1, 2, 3, 4]}).to_parquet(file)
    added = predict_table(stages.root, stages.network.key, str(file), allow_mixed=False)
    table = added.table.to_pandas()
    assert table["mine"].tolist() == [1, 2, 3, 4]
    assert list(table.columns) == ["formula", "mine", "prediction", "prediction_std", "applicability", "reason"]
    known = stages.store.read_table(stages.predictions).to_pandas().set_index("formula")["prediction"]
    np.testing.assert_allclose(table["prediction"].iloc[[0, 3]], known[["Li2O", "LiF"]], atol=1e-5)
    assert table["prediction"].isna().tolist() == [False, True, True, False]
    assert [isinstance(reason, str) for reason in table["reason"]] == [False, True, True, False]
    assert added.inputs == {"model": stages.network}


def test_a_column_of_ours_is_replaced(stages: Any, file: Path) -> None:
    pd.DataFrame({"prediction": ["old"], "formula": ["LiF"]}).to_parquet(file)
    table = predict_table(stages.root, stages.network.key, str(file), allow_mixed=False).table
    assert table.column_names.count("prediction") == 1
    assert table.schema.field("prediction").type in (pa.float32(), pa.float64())
    assert "reason" not in table.column_names  # every row could be used


def test_hull_of_a_hand_made_system(stages: Any, tmp_path: Path) -> None:
    """Li2O at -2 is the only phase: half way to Li the hull is at -1, and Li2O's own removal leaves the elements."""
    phases, rows = tmp_path / "phases.csv", tmp_path / "rows.csv"
    phases.write_text("formula,formation_energy_per_atom\nLi2O,-2.0\n")
    rows.write_text("formula,formation_energy_per_atom\nLi5O,-1.5\nLi2O,-2.5\nLiO,-1.0\nNaO,0.3\n")
    table = hull_table(stages.root, str(phases), str(rows), allow_mixed=False).table.to_pandas()
    # Li5O is one half of Li2O's atoms; LiO three quarters
    np.testing.assert_allclose(table["hull_energy_per_atom"], [-1.0, -2.0, -1.5, 0.0], atol=1e-12)
    np.testing.assert_allclose(table["energy_above_hull"], [-0.5, -0.5, 0.5, 0.3], atol=1e-12)
    np.testing.assert_allclose(table["decomposition_energy"], [-0.5, -2.5, 0.5, 0.3], atol=1e-12)


def test_hull_marks_rows_without_an_energy(stages: Any, file: Path) -> None:
    pd.DataFrame({"formula": ["LiF", "LiF", "Q"], "formation_energy_per_atom": [-1, np.nan, -1]}).to_parquet(file)
    table = hull_table(stages.root, stages.phases.key, str(file), allow_mixed=False).table.to_pandas()
    assert table["energy_above_hull"].isna().tolist() == [False, True, True]
    assert table["reason"].iloc[1] == "formation_energy_per_atom is not a finite number"


@pytest.mark.parametrize("of", ["predict", "hull"])
def test_another_scheme_is_refused_or_marked(stages: Any, file: Path, of: str) -> None:
    table = pa.table({"formula": ["LiF"], "formation_energy_per_atom": [-1.0]})
    pq.write_table(with_scheme(table, EnergyScheme(source="mp", release="1", functional="r2scan")), file)
    add, key = (predict_table, stages.network.key) if of == "predict" else (hull_table, stages.phases.key)
    with pytest.raises(SchemeMismatch, match="--allow-mixed-scheme"):
        add(stages.root, key, str(file), allow_mixed=False)
    assert add(stages.root, key, str(file), allow_mixed=True).table.column("mixed_scheme").to_pylist() == [True]
    scheme = stages.store.manifest(stages.phases).energy_scheme
    pq.write_table(with_scheme(table, scheme), file)
    assert "mixed_scheme" not in add(stages.root, key, str(file), allow_mixed=False).table.column_names


def test_stability_from_ratio_and_from_structure(stages: Any, file: Path) -> None:
    rows = stages.tiny.structures[stages.tiny.structures["formula"] == "LiF"]
    rows = rows[["formula", "structure", "bulk_modulus_vrh", "shear_modulus_vrh"]].assign(
        volume_ratio=[np.nan, 0.7, 0.8]
    )
    rows.to_parquet(file)
    table = stability_table(stages.root, str(file)).table.to_pandas()
    assert table["volume_ratio"].iloc[1:].tolist() == [0.7, 0.8]
    assert 0 < table["volume_ratio"].iloc[0] < 2
    expected = stability_parameter(
        table["bulk_modulus_vrh"].to_numpy(), table["shear_modulus_vrh"].to_numpy(), table["volume_ratio"].to_numpy()
    )
    np.testing.assert_allclose(table["chi"], expected.chi, rtol=1e-12)
    assert ((table["probability_stable"] == 1.0) == (table["chi"] < 0)).all()  # no error bars: certain
    assert "reason" not in table


def test_stability_says_why_a_row_has_no_chi(stages: Any, file: Path) -> None:
    frame = pd.DataFrame(
        {
            "bulk_modulus_vrh": [30.0, -5.0, None, 30.0],
            "shear_modulus_vrh": [20.0, 20.0, 20.0, 20.0],
            "volume_ratio": [0.5, 0.5, 0.5, None],
        }
    )
    frame.to_parquet(file)
    table = stability_table(stages.root, str(file)).table.to_pandas()
    assert table["chi"].notna().tolist() == [True, False, False, False]
    assert [isinstance(reason, str) for reason in table["reason"]] == [False, True, True, True]
    frame.assign(structure=[None, None, None, "junk"]).to_parquet(file)
    again = stability_table(stages.root, str(file)).table.to_pandas()
    assert "structure" in again["reason"].iloc[3]


def test_a_missing_column_is_named(stages: Any, file: Path) -> None:
    pd.DataFrame({"compound": ["LiF"], "shear_modulus_vrh": [1.0]}).to_parquet(file)
    for add in (
        lambda: predict_table(stages.root, stages.network.key, str(file), allow_mixed=False),
        lambda: hull_table(stages.root, stages.phases.key, str(file), allow_mixed=False),
        lambda: stability_table(stages.root, str(file)),
    ):
        with pytest.raises(InputError, match=r"no column '(formula|bulk_modulus_vrh)'.*it has compound"):
            add()


def test_rows_are_kept_by_content(stages: Any, file: Path) -> None:
    pd.DataFrame({"formula": ["LiF"]}).to_parquet(file)
    rows = predict_table(stages.root, stages.network.key, str(file), allow_mixed=False)
    ref = store_rows(stages.root, rows)
    assert store_rows(stages.root, rows) == ref
    assert stages.store.read_table(ref).equals(rows.table)
    pd.DataFrame({"formula": ["Li2O"]}).to_parquet(file)
    other = predict_table(stages.root, stages.network.key, str(file), allow_mixed=False)
    assert store_rows(stages.root, other).key != ref.key


# Inputs


def test_a_table_may_be_a_file_a_key_or_a_folder(stages: Any) -> None:
    path = str(stages.tiny.energies_file)
    for text in (path, f"file:{path}"):
        assert stages.store.manifest(as_compounds(stages.root, text)).counts["rows_in"] == 260
    for text in (stages.energies.key, stages.energies.key[:-6], stages.energies.uri):
        assert as_compounds(stages.root, text) == stages.energies
    assert as_model(stages.root, stages.network.key) == stages.network
    rows, scheme = as_table(stages.root, stages.phases.uri)
    assert rows.num_rows == 260
    assert scheme == stages.store.manifest(stages.phases).energy_scheme
    rows, scheme = as_table(stages.root, path)
    assert (rows.num_rows, scheme) == (260, None)


def test_compounds_are_cleaned_where_phases_or_features_are_wanted(stages: Any) -> None:
    assert as_phases(stages.root, stages.phases.key) == stages.phases
    assert as_phases(stages.root, stages.energies.key) == stages.phases
    assert as_features(stages.root, stages.features.key, stages.cleaning) == stages.features
    assert as_features(stages.root, stages.training.key, CleanParameters()) == stages.features
    assert as_features(stages.root, stages.energies.key, stages.cleaning) == stages.features
    path = str(stages.tiny.energies_file)
    assert as_features(stages.root, path, stages.cleaning, stages.energies_source) == stages.features


def test_the_wrong_kind_and_the_unknown_key(stages: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a 'phases' artifact; give one of kind model"):
        as_model(stages.root, stages.phases.key)
    with pytest.raises(InputError, match="give one of kind phases or compounds"):
        as_phases(stages.root, stages.features.key)
    with pytest.raises(InputError, match="give one of kind compounds, or a file"):
        as_compounds(stages.root, stages.phases.key)
    with pytest.raises(InputError, match=r"there is no file mine\.parquet \(looked in .*\): give its path, or"):
        as_compounds(stages.root, "mine.parquet")
    with pytest.raises(ArtifactNotFound, match="no artifact 'nothing'"):
        as_table(stages.root, "nothing")
    for name in ("absent.csv", "."):
        with pytest.raises(StoreError):
            as_table(stages.root, str(tmp_path / name))


def test_one_table_or_several(tmp_path: Path) -> None:
    odd = tmp_path / "mine, of May.parquet"
    odd.write_bytes(b"")
    assert table_names("starter") == ["starter"]
    assert table_names("starter, mine.parquet") == ["starter", "mine.parquet"]
    assert table_names(str(odd)) == [str(odd)]
    (tmp_path / "May, 2026").mkdir()
    assert table_names(str(tmp_path / "May, 2026")) == [str(tmp_path / "May, 2026")]
    keys = [f"compounds-{number:024d}" for number in range(12)]  # together longer than the name of a file can be
    assert table_names(",".join(keys)) == keys
    with pytest.raises(ArtifactNotFound, match="no artifact 'compounds-000"):
        as_compounds(str(tmp_path / "store"), ",".join(keys))
    with pytest.raises(InputError, match="names a table that has no name"):
        table_names("starter,")
    with pytest.raises(InputError, match="starter is named twice"):
        table_names("starter,mine.parquet,starter")
