"""Student: a network, the hull and the spaces of a screen -> a small network that clears most of the compositions."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import lru_cache

import torch

from models.student import Distillation, Sampled, Student, count_weights, distil
from models.student_recall import Recall, Sample, assess, draw_sample
from storage.artifact import ArtifactRef, ArtifactRequest
from storage.model_files import Architecture, ModelCard, Normalisation, read_model
from storage.scheme import check_same_scheme
from storage.store import ArtifactStore, ArtifactWriter
from tasks.arithmetic import load_arithmetic, sieve_kind
from tasks.loading import load_card, load_hull
from tasks.parameters import ScreenParameters, StudentParameters
from tasks.precision import read_band, sampled
from tasks.progress import Progress
from tasks.spaces import space_header, space_inputs
from tasks.stage import build, stage

STAGE_VERSION = 1

_FILE = "student.json"


@stage("distil-student", retries=1)
def distil_student(
    root: str,
    network: ArtifactRef,
    phases: ArtifactRef,
    precision: ArtifactRef | None,
    screening: ScreenParameters,
    parameters: StudentParameters,
) -> ArtifactRef:
    """Distil a student for a screen, choose its margin on a sample and measure its recall on another.

    With `precision` (`tasks.precision.measure_precision`) a sieve decides the samples; the survivors are the same.
    """
    store = ArtifactStore(root)
    check_same_scheme(
        store.manifest(network).energy_scheme,
        store.manifest(phases).energy_scheme,
        "network and phases",
        screening.allow_mixed_scheme,
    )
    inputs = {"network": network, "phases": phases} | ({"precision": precision} if precision else {})
    settings = distillation(parameters)
    kind = _labels(network)
    request = ArtifactRequest(
        "student",
        "tasks.student",
        STAGE_VERSION,
        {
            "spaces": [space_header(space, f"formulas_{number}") for number, space in enumerate(screening.spaces)],
            "threshold": screening.threshold,
            "settings": settings.to_dict(),
            "labels": kind or "fp32",
            "recall": parameters.recall,
            "sample": parameters.sample,
        },
        inputs | space_inputs(screening),
        energy_scheme=store.manifest(phases).energy_scheme,
    )
    return build(root, request, lambda writer: _write(writer, inputs, screening, parameters, kind))


def make_student(
    root: str, network: ArtifactRef, phases: ArtifactRef, precision: ArtifactRef | None, screening: ScreenParameters
) -> ArtifactRef | None:
    """Have the student distilled that a screen asks for, by a task; None where it asks for none."""
    if screening.student is None:
        return None
    plain = screening.model_copy(update={"student": None})
    return distil_student.submit(root, network, phases, precision, plain, screening.student).result()


def distillation(parameters: StudentParameters) -> Distillation:
    """Return how the student is made: what is no parameter is the model's own."""
    return Distillation(
        widths=parameters.widths,
        labelled=parameters.labelled,
        steps=parameters.steps,
        batch=parameters.batch_rows,
        seed=parameters.seed,
    )


def _labels(network: ArtifactRef) -> str | None:
    """Return the sieve that labels: bytes where the processor multiplies them, fp16 on a GPU, else fp32.

    Networks that are no dense chain have no sieve.
    """
    kind = sieve_kind() if load_card(network).architecture.name == "elemnet" else None
    return None if kind == "bf16" else kind


def _write(
    writer: ArtifactWriter,
    inputs: dict[str, ArtifactRef],
    screening: ScreenParameters,
    parameters: StudentParameters,
    kind: str | None,
) -> None:
    torch.set_num_threads(1)  # more would give other weights
    predictor, hull = load_arithmetic(inputs["network"], inputs["phases"]), load_hull(inputs["phases"])
    predictor.require_place_free()
    spaces: list[Sampled] = [sampled(space) for space in screening.spaces]
    settings = distillation(parameters)
    total = settings.labelled + settings.steps * settings.batch
    progress = Progress("distil the student", total, "compositions")
    student = distil(predictor, hull, spaces, screening.threshold, settings, kind=kind, on_progress=_shown(progress))
    band = read_band(inputs.get("precision"))

    def sample(number: int, label: str) -> Sample:
        shown = _shown(Progress(label, parameters.sample, "compositions"))
        seed = (parameters.seed, number)
        return draw_sample(
            student, predictor, hull, spaces, screening.threshold, parameters.sample, seed, band=band, on_progress=shown
        )

    choice, measured = sample(3, "margin of the student"), sample(4, "recall of the student")
    full = count_weights(read_model(inputs["network"])[1])
    student, recall = assess(student, choice, measured, screening.threshold, parameters.recall, full)
    writer.write_model(_card(writer, inputs, student, recall), [student.weights])
    writer.write_json(_FILE, recall.to_dict())
    writer.count("weights", student.n_weights)
    writer.count("sample", recall.n_sample)
    writer.count("survivors", recall.n_survivors)
    writer.count("missed", recall.n_missed)


def _card(writer: ArtifactWriter, inputs: dict[str, ArtifactRef], student: Student, recall: Recall) -> ModelCard:
    """Return the network's card with what is the student's own; its energies are on the phases' references already."""
    return load_card(inputs["network"]).model_copy(
        update={
            "name": "student",
            "architecture": Architecture.model_validate(student.architecture),
            "normalisation": Normalisation.model_validate(student.normalisation),
            "calibration": None,
            "training_data": inputs["network"].digest,
            "split": {},
            "metrics": recall.to_dict(),
            "energy_scheme": writer.request.energy_scheme,
            "n_members": 1,
        }
    )


def _shown(progress: Progress) -> Callable[[int, int], None]:
    return lambda done, total: progress.update(done)


def read_recall(student: ArtifactRef) -> Recall:
    """Return what a student was measured to lose and to save."""
    return Recall(**json.loads(ArtifactStore.from_ref(student).read_bytes(student, _FILE)))


@lru_cache(maxsize=2)
def load_student(student: ArtifactRef) -> Student:
    """Return a student ready to clear, once per worker process."""
    card, members = read_model(student)
    return Student(
        card.architecture.model_dump(),
        card.normalisation.model_dump(),
        members[0],
        margin=read_recall(student).margin,
    )
