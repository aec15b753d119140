from __future__ import annotations

import pandas as pd
import pyarrow as pa
import pytest

from benchmarks.accuracy_holdouts import diagram_table, errors, marked, page

FORMULAS = {
    "TiO2": "train", "BaTiO3": "validation", "TiN": "train", "Fe2O3": "train", "Na": "train", "NaFeO2": "validation",
    "NaCl": "validation",
}  # fmt: skip


def test_held_out_systems_are_the_only_validation_rows() -> None:
    rows = pa.table({"split": list(FORMULAS.values()), "formula": list(FORMULAS)})
    kept = marked(rows).to_pandas().set_index("formula")["split"].to_dict()
    held = {"TiO2", "BaTiO3", "Fe2O3", "NaFeO2"}
    # titanium with oxygen and anything else; the four alone, but not the element; no other validation row
    assert kept == dict.fromkeys(held, "validation") | {"TiN": "train", "Na": "train"}


def test_errors_are_those_of_each_system() -> None:
    said = pd.DataFrame(
        {"formula": ["TiO2", "BaTiO3", "Fe2O3"], "truth": [0.0, 0.0, 1.0], "prediction": [0.1, -0.3, 1.5]}
    )
    found = errors(said)
    assert found == {"Ti-O": (2, pytest.approx(0.2)), "Na-Fe-Mn-O": (1, pytest.approx(0.5))}
    worse = said.assign(prediction=[0.3, -0.3, 1.2])
    lines = page({"forest": said, "net": worse}).splitlines()
    assert lines[:4] == [
        "| network | Ti-O, 2 rows | Na-Fe-Mn-O, 1 rows |", "| --- | --- | --- |", "| forest | 0.2000 | 0.5000 |",
        "| net | 0.3000 | 0.2000 |",
    ]  # fmt: skip
    assert "In order of their errors: Ti-O: forest < net; Na-Fe-Mn-O: net < forest." in lines


def test_a_line_for_each_diagram() -> None:
    one = {
        "system": "Ti-O", "training_rows": 0, "n_phases": 7, "stable_both": ["TiO2"], "stable_predicted_only": [],
        "stable_reference_only": ["TiO", "Ti2O"], "energy_mae": 0.25, "hull_mae": 0.125,
    }  # fmt: skip
    assert diagram_table([one]).splitlines()[-1] == "| Ti-O | 0 | 7 | 1 | 0 | 2 | 0.2500 | 0.1250 |"
