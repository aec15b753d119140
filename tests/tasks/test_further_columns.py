"""Columns of a file that are none of ours: kept on request, learnt and probed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from models.errors import InputError
from storage.artifact import ArtifactRef
from tasks.examples import ExampleParameters, choose_examples, load_examples
from tasks.explain import resolve_table
from tasks.explain_parameters import ExplainParameters
from tasks.explain_rows import labels_of, read_rows
from tasks.further_columns import read_frame
from tasks.ingest import file_request, ingest
from tasks.parameters import SourceParameters
from tasks.train import train_network
from tasks.train_parameters import TrainParameters

FILE = """formula,moment,is_magnetic,band_gap
FeO,4.0,yes,1.0
He2O,1.0,no,1.0
NaCl,0.0,No,5.0
MnO,5.0,TRUE,2.0
NaCl,0.0,No,5.0
NaCl,0.5,No,5.0
NiO,,true,3.0
CoO,many,true,3.0
KCl,0.0,false,6.0
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "moments.csv"
    path.write_text(FILE)
    return path


def read(stages: Any, file: Path, *further: str) -> ArtifactRef:
    ref: ArtifactRef = stages.run(ingest, SourceParameters(source=f"file:{file}", database="lab", further=further))
    return ref


def test_they_are_kept_with_the_rows_they_belong_to(stages: Any, file: Path) -> None:
    ref = read(stages, file, "moment", "is_magnetic")
    frame = read_frame(stages.store, ref)
    assert frame["formula"].tolist() == ["FeO", "NaCl", "MnO", "NaCl", "NiO", "CoO", "KCl"]
    np.testing.assert_array_equal(frame["moment"], [4.0, 0.0, 5.0, 0.5, np.nan, np.nan, 0.0])
    np.testing.assert_array_equal(frame["is_magnetic"], [1.0, 0.0, 1.0, 0.0, 1.0, 1.0, 0.0])
    # rows that differ in nothing else are no repetitions, and what is no number is missing
    counts = stages.counts(ref)
    assert {name: counts[f"rows_{name}"] for name in ("in", "kept", "rejected", "merged")} == {
        "in": 9, "kept": 7, "rejected": 1, "merged": 1,
    }  # fmt: skip
    assert list(read_frame(stages.store, ref, ["formula", "moment"])) == ["formula", "moment"]
    assert "moment" not in read_frame(stages.store, read(stages, file))


def test_keys_of_files_without_them_are_what_they_were(file: Path) -> None:
    described = file_request(SourceParameters(source=f"file:{file}")).parameters
    assert "further" not in described
    assert file_request(SourceParameters(source=f"file:{file}", further=("moment",))).parameters["further"]


def test_they_are_learnt(stages: Any, tiny: Any, tmp_path: Path) -> None:
    """Magnetic or not, from a moment; and the moment itself."""
    path = tmp_path / "moments.parquet"
    moments = tiny.energies["formation_energy_per_atom"] + 1.0
    tiny.energies.assign(moment=moments).drop(columns="formation_energy_per_atom").to_parquet(path)
    compounds = read(stages, path, "moment")
    training = TrainParameters(preset="small", epochs=1, batch_size=32, threads=1, target="moment")
    training = training.model_copy(update={"architecture": {"widths": [16, 8, 1]}})
    rows = stages.run(choose_examples, compounds, ExampleParameters(targets=("moment",), calibration_fraction=0.0))
    examples = load_examples(rows, "element_fraction")
    assert examples.units == ("its unit",)
    assert set(examples.y[:, 0]) <= set(moments)
    assert stages.run(train_network, rows, training).kind == "model"
    classes = stages.run(choose_examples, compounds, ExampleParameters(targets=("moment",), above=0.0))
    assert set(load_examples(classes, "element_fraction").y[:, 0]) == {0.0, 1.0}


def test_they_are_probed(stages: Any, file: Path) -> None:
    ref = resolve_table.fn(stages.root, str(file), ("oxide", "is_magnetic", "moment>2", "band_gap>1.5"))
    rows = read_rows(stages.store, ref, ExplainParameters())
    formulas = np.array(rows.parsed.reduced)
    magnetic, moment = (labels_of(text, rows) for text in ("is_magnetic", "moment>2"))
    assert set(formulas[magnetic.labels]) == {"FeO", "MnO", "NiO", "CoO"}
    assert magnetic.applies.all()
    assert set(formulas[moment.labels]) == {"FeO", "MnO"}
    assert set(formulas[~moment.applies]) == {"NiO", "CoO"}
    for text, expected in (("moment=5", {"MnO"}), ("is_magnetic=no", {"NaCl", "KCl"}), ("band_gap=3", {"NiO", "CoO"})):
        assert set(formulas[labels_of(text, rows).labels]) == expected
    with pytest.raises(InputError, match="the column 'moment' holds numbers: write moment=NUMBER"):
        labels_of("moment=high", rows)


def test_what_is_not_there_is_named(stages: Any, file: Path) -> None:
    with pytest.raises(InputError, match="no column 'spin'; it has formula, moment, is_magnetic, band_gap"):
        read(stages, file, "spin")
    with pytest.raises(ValidationError, match="'band_gap' is a column of ours, which is kept anyway"):
        SourceParameters(source=f"file:{file}", further=("band_gap",))
    for source in ("starter", "oqmd"):
        with pytest.raises(ValidationError, match="are kept of files, not of"):
            SourceParameters(source=source, further=("moment",))
    file.write_text("formula,phase\nNaCl,cubic\nLi2O,\n")
    with pytest.raises(InputError, match=r"column 'phase' holds no number, and neither yes nor no .*'cubic'"):
        read(stages, file, "phase")
