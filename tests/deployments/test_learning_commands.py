"""Commands that learn: cross-validation, transfer, networks that go on from another, predicted uncertainties."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from command_line import Cli, Ended, assert_one_line
from storage.artifact import ArtifactRef
from storage.model_files import read_model
from storage.store import ArtifactStore
from tasks.inputs import as_features
from tasks.parameters import CleanParameters, SourceParameters

WIDTHS = [16, 8, 1]
TINY = ["--preset", "small", "--epochs", "2", "--threads", "1"]


@dataclass(frozen=True)
class Place:
    """A store with rows to learn from, and a cluster."""

    root: Path
    rows: str
    dask: str

    @property
    def store(self) -> ArtifactStore:
        """The store."""
        return ArtifactStore(self.root)

    @property
    def options(self) -> list[str]:
        """Where a command works."""
        return ["--store", str(self.root), "--dask", self.dask]

    def model(self, ended: Ended) -> ArtifactRef:
        """Return the model whose card a command printed last."""
        return self.store.resolve(Path(ended.last).parents[1])


@pytest.fixture(scope="module")
def place(scheduler: str, tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Place:
    root = tmp_path_factory.mktemp("learning") / "store"
    source = SourceParameters(source=f"file:{tiny.energies_file}", database="tiny", functional="pbe")
    rows = as_features(str(root), str(tiny.energies_file), CleanParameters(calibration_fraction=0.3), source)
    return Place(root, rows.key, scheduler)


def summary(ended: Ended) -> dict[str, Any]:
    """Return the comparison that a command printed, whose numbers are those of its table."""
    assert ended.code == 0, ended
    said: dict[str, Any] = json.loads(Path(ended.last).read_text())
    for line in said["entries"]:
        shown = re.search(rf"│ {re.escape(line['entry'])} +│ +([\d,]+) │ +([\d.]+) │", ended.out)
        assert shown is not None, ended.out
        assert shown.groups() == (f"{line['n_train']:,}", f"{line['mae']:.4f}")
    assert len(said["comparisons"]) == len(said["entries"]) * (len(said["entries"]) - 1) // 2
    for pair in said["comparisons"]:
        assert f"{pair['first']} / {pair['second']}: " in ended.out
    return said


def names(said: dict[str, Any]) -> list[str]:
    return [line["entry"] for line in said["entries"]]


def test_cross_validate_a_network_and_baselines(cli: Cli, place: Place, tmp_path: Path) -> None:
    file = tmp_path / "entries.yaml"
    entries = [
        {"name": "small net", "training": {"network": "elemnet", "architecture": {"widths": WIDTHS}}},
        {"name": "forest", "training": {"network": "random_forest", "architecture": {"n_estimators": 10}}},
        {"name": "line", "training": {"network": "linear"}},
    ]
    file.write_text(yaml.safe_dump(entries))
    run = ["cross-validate", "--data", place.rows, "--folds", "2", *TINY, *place.options]
    said = summary(cli(*run, "--entry", file))
    assert names(said) == ["small net", "forest", "line"]
    assert {line["n_folds"] for line in said["entries"]} == {2}
    folds = [place.store.manifest(ref).parameters for ref in place.store.list("fold")]
    nets = [one["training"] for one in folds if one["training"]["network"] == "elemnet"]
    assert [(one["settings"]["epochs"], one["settings"]["threads"]) for one in nets] == [(2, 1)] * 2
    # written on the command line the same entries are the same folds
    written = ["--entry", "elemnet@widths=[16,8,1]", "--entry", "random_forest@n_estimators=10", "--entry", "linear"]
    again = summary(cli(*run, *written))
    assert names(again) == [written[1], written[3], written[5]]
    assert [line["mae"] for line in again["entries"]] == [line["mae"] for line in said["entries"]]
    assert len(place.store.list("fold")) == len(folds) == 6


def test_train_over_folds(cli: Cli, place: Place) -> None:
    said = summary(cli("train", "--data", place.rows, "--folds", "2", "--set", "widths=[8,4,1]", *TINY, *place.options))
    assert [line["n_folds"] for line in said["entries"]] == [2]
    assert said["comparisons"] == []


def test_train_predict_and_go_on(cli: Cli, place: Place, tmp_path: Path) -> None:
    """Two members that predict their own spread, then a third network that keeps the first layer of one."""
    train = ["train", "--data", place.rows, *TINY, *place.options, "--set", "widths=[16,8,1]"]
    ended = cli(*train, "--members", "2", "--set", "loss=robust_l1")
    assert ended.code == 0, ended
    model = place.model(ended)
    table, out = tmp_path / "in.csv", tmp_path / "out.parquet"
    table.write_text("formula\nNaCl\nNa)Cl\nLi2O\n")
    ended = cli("predict", "--model", model.key, "--in", table, "--out", out, "--store", place.root)
    assert ended.code == 0, ended
    said = pd.read_parquet(out)
    usable = [True, False, True]
    columns = said[["prediction", "prediction_std", "prediction_low", "prediction_high"]]
    assert (columns.notna().to_numpy() == np.array(usable)[:, None]).all()
    good = said[usable]
    assert (good["prediction_std"] > 0).all()
    assert (good["prediction_low"] < good["prediction"]).all()
    assert (good["prediction"] < good["prediction_high"]).all()

    ended = cli(*train, "--init", model.key, "--frozen", "1")
    assert ended.code == 0, ended
    (_, sources), (card, (further,)) = read_model(model), read_model(place.model(ended))
    assert card.n_members == 1
    changed = {name: not np.array_equal(further[name], sources[0][name]) for name in further}
    assert {name for name, is_new in changed.items() if not is_new} == {"layers.0.weight", "layers.0.bias"}


def test_transfer(cli: Cli, place: Place, tiny: Any, tmp_path: Path) -> None:
    """The same energies a little higher, in a file of its own."""
    train = ["train", "--data", place.rows, *TINY, "--epochs", "30", "--set", "widths=[16,8,1]", *place.options]
    source = place.model(cli(*train))
    file = tmp_path / "measured.csv"
    measured = tiny.energies.iloc[::3].rename(columns={"formation_energy_per_atom": "measured"})
    measured.assign(measured=measured["measured"] + 0.1).to_csv(file, index=False)
    run = ["transfer", "--source", source.key, "--data", file, "--folds", "2", "--epochs", "2", *place.options]
    run += ["--map", "measured=formation_energy_per_atom", "--functional", "experiment", "--temperature", "298.15"]
    ended = cli(*run)
    said = summary(ended)
    assert names(said) == ["from scratch", "transferred", "as it is"]
    assert set(said["elements"]) == {"transferred", "as it is"}
    shared = said["elements"]["transferred"]["shared"]
    assert set(shared) == {"Li", "Na", "Mg", "Ca", "Al", "O", "F", "Cl", "S"}
    assert "transferred: 9 elements in common; the model has seen all of the table's" in ended.out
    error = {line["entry"]: line["mae"] for line in said["entries"]}
    assert error["transferred"] < error["from scratch"]
    unseen = summary(cli(*run, "--source-rows", place.rows, "--set-source", "epochs=2"))
    assert names(unseen) == [*names(said), "transferred, formulas unseen"]
    assert [line["mae"] for line in unseen["entries"][:3]] == list(error.values())
    trained = [place.store.manifest(ref).parameters["settings"] for ref in place.store.list("model")]
    own = place.store.manifest(source).parameters["settings"]
    assert own | {"epochs": 2} in trained  # the other source is trained as the source was, but for what was set
    others = next(ref for ref in place.store.list("features") if ref.key != place.rows)
    left = set(place.store.read_table(others).column("formula").to_pylist())
    assert left
    assert left.isdisjoint(measured["formula"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--entry", "alexnet"], ("alexnet", "choose one of")),
        (["--entry", "elemnet@epochs"], ("epochs", "SETTING=VALUE")),
        (["--entry", "elemnet@epochs=none"], ("epochs",)),
        (["--entry", "linear", "--entry", "linear"], ("different names",)),
        (["--entry", "absent.yaml"], ("absent.yaml", "there is no file")),
        (["--entry", "linear", "--scheme", "holdout"], ("Ti-O",)),
        (["--entry", "linear", "--folds", "1"], ("folds",)),
        # these show in a stage, on a worker
        (["--entry", "elemnet@colour=red"], ("colour",)),
        (["--entry", "linear@threads=99"], ("99", "cores")),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_entries_of_no_use(cli: Cli, place: Place, options: list[str], words: tuple[str, ...]) -> None:
    assert_one_line(cli("cross-validate", "--data", place.rows, *TINY[:4], *options, *place.options), *words)


def test_sources_of_no_use(cli: Cli, place: Place, tiny: Any) -> None:
    data = ["--data", tiny.energies_file]
    assert_one_line(cli("transfer", "--source", "model-ffff", *data, *place.options), "model-ffff", "artifacts ls")
    assert_one_line(cli("transfer", "--source", place.rows, *data, *place.options), "kind model")
    ended = cli("train", "--model", "random_forest", "--data", place.rows, *TINY, *place.options)
    assert_one_line(ended, "random_forest", "cross-validation")


def test_classes_are_compared_by_their_brier_scores(cli: Cli, place: Place, tiny: Any) -> None:
    run = ["cross-validate", "--data", tiny.energies_file, "--above", "-1", "--folds", "2", *TINY, *place.options]
    ended = cli(*run, "--entry", "logistic", "--entry", "elemnet@loss=cross_entropy,widths=[8,1]")
    assert ended.code == 0, ended
    said = json.loads(Path(ended.last).read_text())
    table = place.store.read_table(place.store.resolve(Path(ended.last).parents[1])).to_pandas()
    folds = [place.store.read_table(ref).to_pandas() for ref in place.store.list("fold")]
    scores = sorted(float(((fold["prediction"] - fold["truth"]) ** 2).mean()) for fold in folds)
    for line in said["entries"]:
        assert "mae" not in line
        assert line["brier"] == pytest.approx(np.mean([run["brier"] for run in line["runs"]]))
        assert all(any(abs(run["brier"] - score) < 1e-12 for score in scores) for run in line["runs"])
        assert line["auc"] == pytest.approx(table.loc[table["entry"] == line["entry"], "auc"].mean())
        assert re.search(rf"{line['brier']:.4f} │.*│ +{line['auc']:.4f} │ +{line['f1']:.4f} │", ended.out), ended.out
    (pair,) = said["comparisons"]
    first, second = (line["brier"] for line in said["entries"])
    assert pair["difference"] == pytest.approx(first - second, abs=2e-3)  # over rows, not over folds
