"""A teacher: what it labels, for whom, and what its pupil makes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from flows.parameters import TrainFlowParameters
from models.errors import InputError
from models.representation import represent
from storage.artifact import ArtifactRef
from storage.model_files import read_model
from tasks import members
from tasks import teach as teaching
from tasks.clean import clean_training
from tasks.examples import ExampleParameters, choose_examples, load_examples
from tasks.featurize import featurize_fractions
from tasks.loading import load_ensemble
from tasks.members import _are_tasks
from tasks.stage import reference
from tasks.teach import load_taught, teach
from tasks.teach_parameters import TaughtParameters
from tasks.train import train_network
from tasks.train_parameters import TrainParameters

PUPIL = TrainParameters(
    preset="small", epochs=12, batch_size=32, threads=1, seed=5, architecture={"widths": [32, 16, 1]}
)
MANY = TaughtParameters(compositions=600)


@pytest.fixture(scope="module")
def taught(stages: Any) -> ArtifactRef:
    return stages.run(teach, stages.features, stages.network, MANY)


def test_it_labels_compositions_that_the_table_does_not_have(stages: Any, taught: ArtifactRef) -> None:
    table = stages.store.read_table(taught).to_pandas()
    assert len(table) == stages.counts(taught)["rows"] == 600
    assert table["formula"].is_unique
    listed = stages.store.read_table(stages.features, columns=["formula"]).column("formula").to_pylist()
    assert not set(table["formula"]) & set(listed)  # whatever their split
    x = represent(table["formula"].tolist(), "element_fraction")
    assert table["label"].to_numpy() == pytest.approx(load_ensemble(stages.network).predict(x).mean[:, 0], abs=1e-6)
    other = stages.run(teach, stages.features, stages.network, TaughtParameters(compositions=600, seed=1))
    assert set(stages.store.read_table(other)["formula"].to_pylist()) != set(table["formula"])


def test_its_pupil_comes_nearer_to_it(stages: Any, taught: ArtifactRef) -> None:
    examples = load_examples(stages.features, "element_fraction")
    others = np.flatnonzero(examples.split != "train")
    truth = load_ensemble(stages.network).predict(examples.x[others]).mean
    alone = stages.run(train_network, stages.features, PUPIL)
    pupil = reference(train_network.fn(stages.root, stages.features, PUPIL, taught=taught))
    assert pupil.key != alone.key
    distance = {
        name: float(np.abs(load_ensemble(ref).predict(examples.x[others]).mean - truth).mean())
        for name, ref in (("alone", alone), ("pupil", pupil))
    }
    assert distance["pupil"] < 0.7 * distance["alone"]
    cards = [read_model(ref)[0] for ref in (alone, pupil)]
    assert cards[0].normalisation == cards[1].normalisation
    assert cards[0].split == cards[1].split
    assert stages.store.manifest(pupil).inputs["taught"].key == taught.key


def test_an_ensemble_of_pupils_is_put_together(
    stages: Any, taught: ArtifactRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(members, "offered", lambda: [{"GPU": 1}] * 2)
    pupils = PUPIL.model_copy(update={"members": 2, "epochs": 2})
    assert _are_tasks(pupils, None, taught)  # one by one, as a single task would train them
    whole = reference(train_network.fn(stages.root, stages.features, pupils, taught=taught))
    assert read_model(whole)[0].n_members == 2
    root = str(tmp_path / "apart")
    alone = [pupils.model_copy(update={"members": 1, "seed": 5 + number}) for number in range(2)]
    singles = [reference(train_network.fn(root, stages.features, one, taught=taught)) for one in alone]
    joint = reference(train_network.fn(root, stages.features, pupils, taught=taught, members=singles))
    assert (joint.key, joint.digest) == (whole.key, whole.digest)


def test_who_cannot_teach(stages: Any) -> None:
    cleaning = stages.cleaning.model_copy(update={"seed": 7})  # other rows are kept back
    others = stages.run(featurize_fractions, stages.run(clean_training, stages.energies, stages.references, cleaning))
    with pytest.raises(InputError, match="was trained on other rows"):
        teach.fn(stages.root, others, stages.network, MANY)
    with pytest.raises(InputError, match="predicts from"):
        teach.fn(stages.root, stages.features, stages.moduli_network, MANY)
    classes = stages.run(choose_examples, stages.energies, ExampleParameters(above=-1.0, calibration_fraction=0.3))
    settings = {"loss": "cross_entropy"}
    judge = stages.run(train_network, classes, PUPIL.model_copy(update={"epochs": 1, "settings": settings}))
    with pytest.raises(InputError, match="no single number"):
        teach.fn(stages.root, classes, judge, MANY)


def test_a_table_without_other_compositions_has_no_lessons(stages: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = (np.zeros((0, 3), dtype=np.int16), np.zeros((0, 3), dtype=np.int64))
    monkeypatch.setattr(teaching, "substituted", lambda *_: nothing)
    with pytest.raises(InputError, match="no other composition can be made"):
        teach.fn(stages.root, stages.features, stages.network, TaughtParameters(compositions=601))


def test_who_cannot_be_taught(stages: Any, taught: ArtifactRef) -> None:
    with pytest.raises(InputError, match="have no structure to read voronoi from"):
        load_taught(taught, "voronoi")
    source = stages.run(train_network, stages.features, PUPIL)
    with pytest.raises(InputError, match="from scratch; leave it out"):
        train_network.fn(stages.root, stages.features, PUPIL, init=source, taught=taught)
    given = {"data": "starter", "teacher": "model-1"}
    with pytest.raises(ValidationError, match="starts from scratch"):
        TrainFlowParameters.model_validate(given | {"init": "model-2"})
    with pytest.raises(ValidationError, match="no structure to read voronoi"):
        TrainFlowParameters.model_validate(given | {"training": {"representation": "voronoi"}})
