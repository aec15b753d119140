"""Precision: how far the fast mode may be off, measured before it is trusted."""

from __future__ import annotations

import json
import logging
from functools import partial

import torch

from models.cascade import Band, measure_band
from models.screening import composition_fractions
from models.sieve import best_sieve
from storage.artifact import ArtifactRef, ArtifactRequest
from storage.store import ArtifactStore, ArtifactWriter
from tasks.loading import load_predictor
from tasks.parameters import ScreenParameters
from tasks.progress import Progress
from tasks.spaces import composition_space
from tasks.stage import build, stage

STAGE_VERSION = 2

logger = logging.getLogger(__name__)

_FILE = "precision.json"


@stage("measure-precision")
def measure_precision(root: str, network: ArtifactRef, parameters: ScreenParameters) -> ArtifactRef:
    """Measure how far the fastest sieve here is from fp32, on a sample of every space; the widest band counts."""
    kind = best_sieve()
    request = ArtifactRequest(
        "precision",
        "tasks.precision",
        STAGE_VERSION,
        {
            "spaces": [composition_space(space).to_dict() for space in parameters.spaces],
            "sample": parameters.precision_sample,
            "kind": kind,
        },
        {"network": network},
    )
    return build(root, request, lambda writer: _write(writer, network, parameters, kind))


def _write(writer: ArtifactWriter, network: ArtifactRef, parameters: ScreenParameters, kind: str | None) -> None:
    if kind is None:
        writer.write_json(_FILE, {"kind": None})
        writer.count("sample", 0)
        return
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
                kind,
                n_sample=parameters.precision_sample,
                on_progress=partial(_show, progress),
            )
        )
    writer.write_json(_FILE, max(bands, key=lambda band: band.width).to_dict())
    writer.count("sample", sum(band.n_sample for band in bands))


def _show(progress: Progress, done: int, total: int) -> None:
    progress.update(done)


def read_band(precision: ArtifactRef | None) -> Band | None:
    """Return the band of the fast mode's sieve; None, for fp32, where there is none or not on this processor.

    Workers may differ: fp32 gives the same survivors, and another processor's sieve was not measured.
    """
    if precision is None:
        return None
    record = json.loads(ArtifactStore.from_ref(precision).read_bytes(precision, _FILE))
    if record["kind"] is None or record["kind"] != best_sieve():
        logger.warning("the fast mode needs %s; this processor computes in fp32", record["kind"] or "VNNI or bf16")
        return None
    return Band(**record)
