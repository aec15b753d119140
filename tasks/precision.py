"""Precision: how far the fast mode may be off, measured before it is trusted."""

from __future__ import annotations

import json
from functools import partial

import torch

from models.cascade import Band, measure_band
from models.inference import has_bf16
from models.screening import composition_fractions
from storage.artifact import ArtifactRef, ArtifactRequest
from storage.store import ArtifactStore, ArtifactWriter
from tasks.loading import load_predictor
from tasks.parameters import ScreenParameters
from tasks.progress import Progress
from tasks.spaces import composition_space
from tasks.stage import build, stage

STAGE_VERSION = 1

_FILE = "precision.json"


@stage("measure-precision")
def measure_precision(root: str, network: ArtifactRef, parameters: ScreenParameters) -> ArtifactRef:
    """Measure the deviation of bf16 from fp32 on a sample of every space of a screen; the widest band counts."""
    request = ArtifactRequest(
        "precision",
        "tasks.precision",
        STAGE_VERSION,
        {
            "spaces": [composition_space(space).to_dict() for space in parameters.spaces],
            "sample": parameters.precision_sample,
            # products of bf16 differ between processors that have them and those that emulate them
            "in_hardware": has_bf16(),
        },
        {"network": network},
    )
    return build(root, request, lambda writer: _write(writer, network, parameters))


def _write(writer: ArtifactWriter, network: ArtifactRef, parameters: ScreenParameters) -> None:
    torch.set_num_threads(1)
    predictor = load_predictor(network)
    bands = []
    for parameters_of_space in parameters.spaces:
        space = composition_space(parameters_of_space)
        progress = Progress("fast mode against fp32", min(parameters.precision_sample, len(space)), "compositions")
        bands.append(
            measure_band(
                predictor,
                space,
                composition_fractions,
                n_sample=parameters.precision_sample,
                on_progress=partial(_show, progress),
            )
        )
    widest = max(bands, key=lambda band: band.width)
    writer.write_json(_FILE, {"type": "bf16", "in_hardware": has_bf16(), **widest.to_dict()})
    writer.count("sample", sum(band.n_sample for band in bands))


def _show(progress: Progress, done: int, total: int) -> None:
    progress.update(done)


def read_band(precision: ArtifactRef | None) -> Band | None:
    """Return the band that the fast mode needs; None for fp32."""
    if precision is None:
        return None
    record = json.loads(ArtifactStore.from_ref(precision).read_bytes(precision, _FILE))
    return Band(**{name: record[name] for name in ("width", "n_sample", "largest", "mean")})
