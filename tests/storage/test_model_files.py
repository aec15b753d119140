from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from storage.artifact import ArtifactRequest
from storage.errors import ArtifactCorrupt, ArtifactNotFound, StoreError
from storage.model_files import Architecture, ModelCard, Normalisation, Target, member_path, model_files, read_model
from storage.scheme import EnergyScheme
from storage.store import ArtifactStore
from storage.writer import ArtifactWriter

Members = list[dict[str, np.ndarray]]


def card(**changes: Any) -> ModelCard:
    fields: dict[str, Any] = {
        "name": "elemnet",
        "architecture": {"name": "elemnet", "parameters": {"widths": [4, 1], "dropout": None}},
        "features": "element_fraction",
        "feature_version": 1,
        "element_order": ["H", "Li"],
        "targets": [{"name": "formation_energy_per_atom", "unit": "eV/atom"}],
        "normalisation": {"mean": [-0.5], "std": [0.8]},
        "calibration": {"slope": -3.5, "offset": 0.1},
        "training_data": "d" * 64,
        "split": {"train": 10, "validation": 2},
        "metrics": {"validation_mae": 0.06},
        "functional": "pbe",
        "energy_scheme": {"source": "oqmd", "release": "1", "functional": "pbe"},
        "n_members": 2,
        "domain": {"rows": {"H": 5, "Li": 500}},
    }
    return ModelCard.model_validate({**fields, **changes})


@pytest.fixture
def members() -> Members:
    rng = np.random.default_rng(1)
    return [
        {
            "0.weight": rng.normal(size=(4, 2)).astype(np.float32),
            "0.bias": rng.normal(size=4).astype(np.float32),
            "step": np.array(7, np.int64),
            "half": rng.normal(size=3).astype(np.float16),
        }
        for _ in range(2)
    ]


def same(a: Members, b: Members) -> bool:
    return len(a) == len(b) and all(
        x.keys() == y.keys()
        and all(x[n].dtype == y[n].dtype and x[n].shape == y[n].shape and np.array_equal(x[n], y[n]) for n in x)
        for x, y in zip(a, b, strict=True)
    )


@pytest.fixture
def model(store: ArtifactStore, members: Members) -> Any:
    def write(writer: ArtifactWriter) -> None:
        writer.write_model(card(), members)

    return store.get_or_build(ArtifactRequest("model", "tasks.train", 1, {"seed": 1}), write).ref


def test_round_trip_through_the_store(store: ArtifactStore, model: Any, members: Members) -> None:
    for source in (model, model.uri, f"{model.uri}/{model.digest[:16]}", store.local_path(model)):
        read_card, read_members = read_model(source)
        assert read_card == card()
        assert same(read_members, members)
    assert read_model(model.key, store)[0] == card()
    assert [entry.path for entry in store.manifest(model).payload] == [
        "card.json",
        "member-000.safetensors",
        "member-001.safetensors",
    ]
    assert read_card.energy_scheme == EnergyScheme(source="oqmd", release="1", functional="pbe")
    assert isinstance(read_card.architecture, Architecture)
    assert isinstance(read_card.normalisation, Normalisation)
    assert read_card.targets == [Target(name="formation_energy_per_atom", unit="eV/atom", transform="none")]


def test_default_store(store: ArtifactStore, model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ELEMSCREEN_STORE", store.root)
    assert read_model("model")[0] == card()


def test_plain_folder(tmp_path: Path, members: Members) -> None:
    for name, data in model_files(card(), members).items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "notes.txt").write_text("x")
    assert same(read_model(tmp_path)[1], members)
    assert same(read_model(str(tmp_path))[1], members)


def test_bytes_do_not_depend_on_order_or_layout(members: Members) -> None:
    files = model_files(card(), members)
    turned = [{name: np.array(array, order="F") for name, array in reversed(one.items())} for one in members]
    assert not turned[0]["0.weight"].flags.c_contiguous
    assert model_files(card(), turned) == files
    strided = [{**one, "0.weight": np.repeat(one["0.weight"], 2, axis=1)[:, ::2]} for one in members]
    assert model_files(card(), strided) == files


def test_scrambled_layouts_read_back_right(tmp_path: Path) -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3).T
    for name, data in model_files(card(n_members=1), [{"w": array}]).items():
        (tmp_path / name).write_bytes(data)
    assert np.array_equal(read_model(tmp_path)[1][0]["w"], array)


def test_refused_when_written(members: Members) -> None:
    with pytest.raises(StoreError, match="says 2 members, not 1; correct n_members"):
        model_files(card(), members[:1])
    with pytest.raises(StoreError, match=r"member 1 .* has no tensors"):
        model_files(card(), [members[0], {}])
    with pytest.raises(StoreError, match=r"cannot be stored \(object\); use float32"):
        model_files(card(n_members=1), [{"w": np.array([object()])}])
    with pytest.raises(StoreError, match="nan"):
        model_files(card(metrics={"mae": float("nan")}), members)
    with pytest.raises(ValidationError, match="one mean and one std per target"):
        card(normalisation={"mean": [1.0, 2.0], "std": [1.0]})
    with pytest.raises(ValidationError):
        card(unknown=1)
    with pytest.raises(ValidationError):
        card(n_members=0)


@pytest.fixture
def folder(tmp_path: Path, members: Members) -> Path:
    place = tmp_path / "model"
    place.mkdir()
    for name, data in model_files(card(), members).items():
        (place / name).write_bytes(data)
    return place


DAMAGE: dict[str, tuple[Callable[[Path], Any], type[StoreError], str]] = {
    "missing member": (lambda f: (f / member_path(1)).unlink(), ArtifactCorrupt, "2 members and has member-000"),
    "extra member": (lambda f: (f / "member-002.safetensors").write_bytes(b""), ArtifactCorrupt, "announces 2 members"),
    "no member": (lambda f: [p.unlink() for p in f.glob("*.safetensors")], ArtifactCorrupt, "and has none"),
    "truncated": (lambda f: (f / member_path(0)).write_bytes(bytes(20)), ArtifactCorrupt, "member-000.safetensors of"),
    "card cut": (lambda f: (f / "card.json").write_text('{"name":'), ArtifactCorrupt, "not a valid model card"),
    "card list": (lambda f: (f / "card.json").write_text("[]"), ArtifactCorrupt, "not a valid model card"),
    "card field": (lambda f: (f / "card.json").write_text('{"name": "x"}'), ArtifactCorrupt, "not a valid model card"),
    "newer": (lambda f: (f / "card.json").write_text('{"format_version": 99}'), StoreError, "newer elemscreen"),
    "no card": (lambda f: (f / "card.json").unlink(), ArtifactNotFound, "there is no artifact in"),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(DAMAGE))
def test_damaged_models_are_named(folder: Path, name: str) -> None:
    damage, error, message = DAMAGE[name]
    damage(folder)
    with pytest.raises(error, match=message) as caught:
        read_model(folder)
    assert "\n" not in str(caught.value)


def test_altered_weights_in_the_store_are_noticed(store: ArtifactStore, model: Any) -> None:
    path = store.local_path(model, "member-001.safetensors")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1  # a weight; safetensors alone would not notice
    path.write_bytes(bytes(data))
    with pytest.raises(ArtifactCorrupt, match="altered"):
        read_model(model)
    with pytest.raises(ArtifactCorrupt, match="altered"):
        read_model(path.parent)


def test_an_artifact_that_is_no_model(store: ArtifactStore, build: Any, request_for: Any) -> None:
    ref = store.get_or_build(request_for(), build).ref
    with pytest.raises(ArtifactNotFound, match=r"holds no model \(card.json is missing\)"):
        read_model(ref)


def test_card_is_readable_json(members: Members) -> None:
    fields = json.loads(model_files(card(), members)["card.json"])
    assert fields["normalisation"] == {"mean": [-0.5], "std": [0.8]}
    assert fields["format_version"] == 1
