"""What is read from the command line of `cross-validate`: entries and rows, without a server."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from deployments.commands.validate import read_entries, rows_given
from models.errors import InputError
from models.registry import BASELINE_NAMES
from models.training_parameters import TrainingParameters
from tasks.examples import ExampleParameters
from tasks.learning import training_settings
from tasks.train_parameters import ENERGY, TrainParameters

COMMON = {"epochs": None, "preset": "small", "threads": 1, "target": ENERGY}


def training(text: str, **common: Any) -> TrainParameters:
    (entry,) = read_entries([text], COMMON | common)
    return entry.training


# --- entries of the command line


def test_a_network_alone_takes_what_is_common() -> None:
    (entry,) = read_entries(["attention"], COMMON | {"epochs": 7}, n_seeds=3)
    assert (entry.name, entry.init, entry.n_seeds, entry.as_it_is) == ("attention", None, 3, False)
    assert entry.training == TrainParameters(network="attention", preset="small", threads=1, epochs=7)


def test_settings_go_where_they_belong() -> None:
    read = training("residual@representation=magpie,epochs=20,loss=mse,patience=5,depth=48,skip=stacked", epochs=7)
    assert (read.representation, read.epochs) == ("magpie", 20)  # of the training, before what is common
    assert read.settings == {"loss": "mse", "patience": 5}  # of the trainer
    assert read.architecture == {"depth": 48, "skip": "stacked"}  # of the network


def test_a_baselines_settings_are_its_estimators() -> None:
    read = training("gradient_boosting@learning_rate=0.2,representation=magpie")
    assert (read.settings, read.architecture, read.representation) == ({}, {"learning_rate": 0.2}, "magpie")


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ("1e-3", 1e-3),  # text in YAML 1.1
        ("2E5", 2e5),
        ("-1.5e+2", -150.0),
        ("0.25", 0.25),
        ("48", 48),
        ("true", True),
        ("stacked", "stacked"),
        ("", None),
        ("[16, 8,1]", [16, 8, 1]),
        ("[1e-3,deep]", [1e-3, "deep"]),
        ("{name: elemnet, parameters: {widths: [16, 8]}}", {"name": "elemnet", "parameters": {"widths": [16, 8]}}),
    ],
)
def test_values_are_read_as_they_are_meant(value: str, read: Any) -> None:
    found = training(f"elemnet@first={value},last=1").architecture
    assert found == {"first": read, "last": 1}
    assert type(found["first"]) is type(read)


def test_a_learning_rate_reaches_the_trainer() -> None:
    settings = training_settings(training("elemnet@learning_rate=1e-4,clip_norm=1e0,seed=3"))
    assert settings == TrainingParameters.preset("small", learning_rate=1e-4, clip_norm=1.0, seed=3, threads=1)


def test_entries_do_not_share_what_they_are_given() -> None:
    common = COMMON | {"architecture": {"widths": [8, 1]}, "settings": {"loss": "mae"}}
    before = copy.deepcopy(common)
    first, second = read_entries(["elemnet@input_scale=1,loss=mse", "elemnet"], common)
    assert first.training.architecture == {"widths": [8, 1], "input_scale": 1}
    assert first.training.settings == {"loss": "mse"}
    assert second.training.architecture == {"widths": [8, 1]}
    assert second.training.settings == {"loss": "mae"}
    assert common == before


def test_baselines_start_from_no_model() -> None:
    for name in BASELINE_NAMES:
        assert read_entries([name], COMMON, init="model-1")[0].init is None
    assert read_entries(["elemnet@epochs=2"], COMMON, init="model-1")[0].init == "model-1"


def test_names_tell_entries_apart() -> None:
    texts = ["elemnet", "elemnet@epochs=2", "ridge"]
    assert [entry.name for entry in read_entries(texts, COMMON)] == texts


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("elemnet@epochs", r"'epochs' in --entry elemnet@epochs is no SETTING=VALUE; write for example elemnet@epochs"),
        ("elemnet@widths=[8,1", "--entry .* cannot be read"),
        ("none.yaml", "no file none.yaml with entries"),
    ],
)
def test_unreadable_entries_are_one_line(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read_entries([text], COMMON)
    assert "\n" not in str(caught.value)


def test_unknown_networks_are_refused() -> None:
    with pytest.raises(ValidationError, match="'alexnet' is not known"):
        read_entries(["alexnet"], COMMON)


# --- entries of a file


def written(folder: Path, text: str) -> list[str]:
    (folder / "entries.yaml").write_text(text)
    return [str(folder / "entries.yaml")]


def test_a_list_in_a_file(tmp_path: Path) -> None:
    text = """
    - name: short
      training: {network: elemnet, epochs: 2, settings: {learning_rate: 1e-3}}
      n_seeds: 1
    - name: forest
      training: {network: random_forest, threads: 2}
    - name: plain
    """
    entries = read_entries(written(tmp_path, text), COMMON | {"epochs": 9}, init="model-1", n_seeds=4)
    assert [entry.name for entry in entries] == ["short", "forest", "plain"]
    short, forest, plain = (entry.training for entry in entries)
    assert (short.epochs, short.preset, short.settings) == (2, "small", {"learning_rate": 1e-3})
    assert (forest.network, forest.threads) == ("random_forest", 2)
    # what the file leaves open is as the command line has it
    assert (plain.network, plain.epochs, plain.threads) == ("elemnet", 9, 1)
    assert [entry.n_seeds for entry in entries] == [1, 4, 4]
    assert [entry.init for entry in entries] == ["model-1", None, "model-1"]


@pytest.mark.parametrize("text", ["", "name: short", "- elemnet", "[]"])
def test_a_file_without_a_list_is_one_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match="holds no list of entries"):
        read_entries(written(tmp_path, text), COMMON)


def test_a_file_that_is_no_yaml_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"entries\.yaml cannot be read"):
        read_entries(written(tmp_path, "- name: [short"), COMMON)
    with pytest.raises(ValidationError, match="nme"):
        read_entries(written(tmp_path, "- nme: short"), COMMON)


# --- rows


def given(data: str, target: str = ENERGY, **changes: Any) -> dict[str, Any]:
    options: dict[str, Any] = {"columns": None, "database": "file", "functional": None, "temperature": None}
    return rows_given(data, target=target, **(options | {"above": None, "plain": False} | changes))


def test_formation_energies_go_by_the_rules_unless_told_otherwise() -> None:
    assert given("starter")["examples"] is None
    assert given("starter", f" {ENERGY},")["examples"] is None
    assert given("starter", plain=True)["examples"] == ExampleParameters()
    assert given("starter", above=-1.0)["examples"] == ExampleParameters(above=-1.0)
    assert given("gaps.csv", "band_gap")["examples"] == ExampleParameters(targets=("band_gap",))
    both = given("gaps.csv", "band_gap, volume_per_atom")["examples"]
    assert both.targets == ("band_gap", "volume_per_atom")


def test_a_file_is_read_as_the_options_say() -> None:
    rows = given("rows.csv", columns=["gap=band_gap"], database="lab", functional="experiment", temperature=298.0)
    assert rows["data"] == "rows.csv"
    source = rows["energies"]
    assert (source.source, source.columns, source.database) == ("file:rows.csv", {"gap": "band_gap"}, "lab")
    assert (source.functional, source.temperature) == ("experiment", 298.0)
    assert given("file:rows.csv")["energies"].source == "file:rows.csv"
    assert given("starter")["energies"].source == "starter"
    assert given("rows.csv", "moment,band_gap")["energies"].further == ("moment",)


def test_unusable_options_are_refused() -> None:
    with pytest.raises(InputError, match="--map takes COLUMN=NAME"):
        given("rows.csv", columns=["band_gap"])
    with pytest.raises(ValidationError, match="no column of numbers"):
        given("rows.csv", "prototype")
    with pytest.raises(ValidationError, match="need the temperature"):
        given("rows.csv", functional="experiment")
