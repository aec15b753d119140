"""The stage that distils a student: its artifact, its key, and what a cascade makes of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from models.cascade import decide
from models.student import fractions_at
from storage.artifact import ArtifactRef
from storage.errors import ForeignPart, SchemeMismatch
from storage.model_files import read_model
from tasks.loading import load_hull, load_predictor
from tasks.merge import check_parts, merge_candidates
from tasks.parameters import ScreenParameters, StudentParameters
from tasks.precision import measure_precision, sampled
from tasks.screen import screen_block
from tasks.spaces import plan_blocks
from tasks.stage import reference
from tasks.student import distil_student, load_student, read_recall

PARAMETERS = StudentParameters(widths=(32, 16, 1), labelled=3000, steps=200, batch_rows=64, recall=0.98, sample=2000)


@pytest.fixture(scope="module")
def student(stages: Any) -> ArtifactRef:
    return stages.run(distil_student, stages.network, stages.phases, None, stages.screening, PARAMETERS)


def test_the_artifact_holds_network_margin_and_recall(stages: Any, student: ArtifactRef) -> None:
    assert student.kind == "student"
    card, members = read_model(student)
    assert card.architecture.parameters["widths"] == [32, 16, 1]
    assert card.training_data == stages.network.digest
    assert card.energy_scheme == stages.store.manifest(stages.phases).energy_scheme
    record, recall = json.loads(stages.store.read_bytes(student, "student.json")), read_recall(student)
    assert record == recall.to_dict() == card.metrics
    assert recall.low <= recall.recall <= recall.high
    assert (recall.wanted, recall.threshold, recall.n_sample) == (0.98, stages.screening.threshold, 2000)
    full = sum(array.size for array in read_model(stages.network)[1][0].values() if array.ndim == 2)
    weights = 86 * 32 + 32 * 16 + 16
    assert sum(array.size for array in members[0].values() if array.ndim == 2) == weights
    assert recall.flops == pytest.approx(weights / full + recall.passed)
    counts = stages.counts(student)
    assert counts == {
        "weights": weights,
        "sample": 2000,
        "survivors": recall.n_survivors,
        "missed": recall.n_missed,
    }


def test_the_recall_is_that_of_the_screen(stages: Any, student: ArtifactRef) -> None:
    """On every composition of the screen's spaces: what the interval says of the sample holds of them."""
    ready, recall = load_student(student), read_recall(student)
    assert ready.margin == recall.margin
    spaces = [sampled(space) for space in stages.screening.spaces]
    fractions = fractions_at(spaces, np.arange(sum(len(space) for space in spaces)))
    others = -load_hull(stages.phases).decomposition_energy(fractions, np.zeros(len(fractions)))
    network = load_predictor(stages.network, stages.phases)
    single = fractions.astype(np.float32)
    threshold = stages.screening.threshold
    plain = decide(network, single, others, threshold)
    cleared = decide(network, single, others, threshold, student=ready)
    assert set(cleared.rows) <= set(plain.rows)
    assert recall.low <= len(cleared.rows) / len(plain.rows) <= recall.high
    assert cleared.n_after_student / len(single) == pytest.approx(recall.passed, abs=0.05)


def test_built_anew_it_is_the_same(stages: Any, student: ArtifactRef, tmp_path: Path) -> None:
    again = stages.run(distil_student, stages.network, stages.phases, None, stages.screening, PARAMETERS)
    assert again == student
    with pytest.MonkeyPatch.context() as patch:
        import tasks.student

        build = tasks.student.build
        patch.setattr(tasks.student, "build", lambda _, request, write: build(str(tmp_path / "store"), request, write))
        arguments = (stages.network, stages.phases, None, stages.screening, PARAMETERS)
        elsewhere = reference(distil_student.fn(stages.root, *arguments))
    assert elsewhere.uri != student.uri
    assert (elsewhere.key, elsewhere.digest) == (student.key, student.digest)


def test_a_sieve_decides_the_samples_alike(stages: Any, student: ArtifactRef) -> None:
    precision = stages.run(measure_precision, stages.network, stages.screening)
    sieved = stages.run(distil_student, stages.network, stages.phases, precision, stages.screening, PARAMETERS)
    assert sieved.key != student.key
    assert read_recall(sieved) == read_recall(student)


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"steps": 201}, {"recall": 0.9}, {"sample": 1999}, {"widths": (32, 8, 1)}]
)
def test_everything_that_counts_is_in_the_key(stages: Any, student: ArtifactRef, change: dict[str, Any]) -> None:
    other = StudentParameters(**(PARAMETERS.model_dump() | change))
    assert _key(stages, stages.screening, other) != student.key


def test_the_threshold_is_in_the_key(stages: Any, student: ArtifactRef) -> None:
    """A margin is that of one threshold: another screen distils its own."""
    assert _key(stages, stages.screening, PARAMETERS) == student.key
    higher = stages.screening.model_copy(update={"threshold": 0.35})
    assert _key(stages, higher, PARAMETERS) != student.key


def _key(stages: Any, screening: Any, parameters: StudentParameters) -> str:
    """Key that a student would have, without making it."""
    keys: list[str] = []

    def only_asked(_: str, request: Any, write: Any) -> None:
        keys.append(request.key)

    with pytest.MonkeyPatch.context() as patch:
        import tasks.student

        patch.setattr(tasks.student, "build", only_asked)
        distil_student.fn(stages.root, stages.network, stages.phases, None, screening, parameters)
    return keys[0]


def test_network_and_phases_of_two_schemes(stages: Any) -> None:
    from tasks.clean import clean_phases
    from tasks.ingest import ingest
    from tasks.references import audit_references

    energies = stages.run(ingest, stages.energies_source.model_copy(update={"functional": "r2scan"}))
    references = stages.run(audit_references, energies, stages.cleaning)
    phases = stages.run(clean_phases, energies, references, stages.cleaning)
    with pytest.raises(SchemeMismatch, match="--allow-mixed-scheme"):
        stages.run(distil_student, stages.network, phases, None, stages.screening, PARAMETERS)


def screened(stages: Any, screening: ScreenParameters, student: ArtifactRef | None, block_size: int) -> ArtifactRef:
    parts = [
        stages.run(screen_block, stages.network, stages.phases, None, screening, block, student)
        for block in plan_blocks(screening, block_size)
    ]
    inputs = (stages.network, stages.phases, None, stages.calibration, stages.known, screening, student)
    return stages.run(merge_candidates, parts, *inputs)


def test_a_screen_with_a_student_is_part_of_the_screen_without(stages: Any, student: ArtifactRef) -> None:
    asked = stages.screening.model_copy(update={"student": PARAMETERS})
    cleared = screened(stages, asked, student, 70)
    again = stages.counts(cleared)
    plain = screened(stages, stages.screening, None, 60)
    assert stages.store.manifest(cleared).inputs["student"].digest == student.digest
    assert 0 < again["below"] <= again["decided_after_student"] < again["screened"] == stages.counts(plain)["screened"]
    assert "decided_after_student" not in stages.counts(plain)
    columns = ["index", "formation_energy_per_atom", "decomposition_energy"]
    kept, whole = (stages.store.read_table(ref, columns=columns).to_pandas() for ref in (cleared, plain))
    assert whole.merge(kept, how="inner").equals(kept)
    recall = read_recall(student)
    assert recall.low <= len(kept) / len(whole) <= recall.high


def test_parts_of_a_student_belong_to_no_other_screen(stages: Any, student: ArtifactRef) -> None:
    asked = stages.screening.model_copy(update={"student": PARAMETERS})
    blocks = plan_blocks(asked, 10**6)
    parts = [stages.run(screen_block, stages.network, stages.phases, None, asked, block, student) for block in blocks]
    inputs = {"network": stages.network, "phases": stages.phases}
    with pytest.raises(ForeignPart, match="belongs to another screen"):
        check_parts(stages.store, parts, inputs, stages.screening)
    with pytest.raises(ValidationError, match="no student"):
        ScreenParameters(keep_predictions=True, student=PARAMETERS)
