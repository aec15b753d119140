"""Precision: how far the fast mode may be off, measured before it is trusted."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import cast

import torch

from models.cascade import Band, measure_band, widest
from models.composition_list import CompositionList
from models.device_predictor import DevicePredictor
from models.predictor import Predictor
from models.screening import composition_fractions
from models.space import CompositionSpace
from storage.artifact import ArtifactRef, ArtifactRequest
from storage.store import ArtifactStore, ArtifactWriter
from tasks.arithmetic import load_arithmetic, runs_here, second_kind, sieve_kind
from tasks.parameters import ScreenParameters, SpaceParameters
from tasks.progress import Progress
from tasks.spaces import composition_space, formula_list, listed_compositions, space_header, space_inputs
from tasks.stage import build, stage

STAGE_VERSION = 4

logger = logging.getLogger(__name__)

_FILE = "precision.json"


@stage("measure-precision")
def measure_precision(root: str, network: ArtifactRef, parameters: ScreenParameters) -> ArtifactRef:
    """Measure how far the fastest sieve here is from fp32, on a sample of every space; the widest band counts."""
    kind = sieve_kind()
    request = ArtifactRequest(
        "precision",
        "tasks.precision",
        STAGE_VERSION,
        {
            "spaces": [space_header(space, f"formulas_{number}") for number, space in enumerate(parameters.spaces)],
            "sample": parameters.precision_sample,
            "kind": kind,
            "second": second_kind(kind),
        },
        {"network": network} | space_inputs(parameters),
    )
    return build(root, request, lambda writer: _write(writer, network, parameters, kind))


def _write(writer: ArtifactWriter, network: ArtifactRef, parameters: ScreenParameters, kind: str | None) -> None:
    if kind is None:
        writer.write_json(_FILE, {"kind": None})
        writer.count("sample", 0)
        return
    torch.set_num_threads(1)
    predictor = load_arithmetic(network)
    bands = []
    for space in parameters.spaces:
        wanted = min(parameters.precision_sample, len(sampled(space)))
        progress = Progress("fast mode against fp32", wanted, "compositions")
        bands.append(band_on(space, predictor, kind, parameters.precision_sample, partial(_show, progress)))
    writer.write_json(_FILE, widest(bands).to_dict())
    writer.count("sample", sum(band.n_sample for band in bands))


def band_on(
    space: SpaceParameters,
    predictor: Predictor | DevicePredictor,
    kind: str,
    n_sample: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> Band:
    """Measure the bands of a sieve, and of the one after it where this worker has one, on a sample of a space."""
    return measure_band(
        predictor,
        sampled(space),
        composition_fractions,
        kind,
        n_sample=n_sample,
        second=second_kind(kind),
        on_progress=on_progress,
    )


def sampled(parameters: SpaceParameters) -> CompositionSpace:
    """Return what is sampled; a list answers to its length and to numbers as a space does, which is all that counts."""
    ref = formula_list(parameters)
    if ref is None:
        return composition_space(parameters)
    return cast(CompositionSpace, CompositionList(listed_compositions(ref)))


def _show(progress: Progress, done: int, total: int) -> None:
    progress.update(done)


def read_band(precision: ArtifactRef | None) -> Band | None:
    """Return the bands of the fast mode's sieves; None, for fp32, where there are none or not on this worker.

    Workers may differ: fp32 gives the same survivors, and so does the first sieve where the second is missing. Another
    sieve than those of the bands was not measured.
    """
    if precision is None:
        return None
    record = json.loads(ArtifactStore.from_ref(precision).read_bytes(precision, _FILE))
    if record["kind"] is None or not runs_here(record["kind"]):
        needed = record["kind"] or "VNNI, bf16, AVX2 or a GPU"
        logger.warning("the fast mode needs %s; this worker computes in fp32", needed)
        return None
    band = Band.from_dict(record)
    return band if all(runs_here(one.kind) for one in band.sieves) else replace(band, second=None)
