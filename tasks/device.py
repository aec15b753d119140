"""What a worker computes with: the cores of its processor or, where its profile says so, a GPU."""

from __future__ import annotations

import os
from functools import lru_cache
from typing import Final

from models.device_predictor import FP16, DevicePredictor
from models.errors import InputError
from models.predictor import Predictor
from models.sieve import best_sieve
from storage.artifact import ArtifactRef
from tasks.loading import load_predictor

DEVICE: Final = "ELEMSCREEN_DEVICE"
"""Environment variable of a worker: ``cpu``, the default, or ``cuda``; the profile `local-cuda` sets it."""
BLOCK_SIZES: Final = {"cpu": 2_500_000, "cuda": 50_000_000}
"""Compositions of a screening task: a minute of a core; of a GPU, not timed yet, seconds. No part of the result."""


def worker_device(environment: dict[str, str] | None = None) -> str:
    """Return ``cpu`` or ``cuda``, as an environment says; by default this process's.

    Raises
    ------
    InputError
        For another value.
    """
    device = (os.environ if environment is None else environment).get(DEVICE, "cpu")
    if device not in BLOCK_SIZES:
        raise InputError(f"{DEVICE} is {device!r}: set it to {' or '.join(BLOCK_SIZES)}")
    return device


def sieve_kind() -> str | None:
    """Return the fastest reduced arithmetic of this worker; None: fp32 is as fast as any."""
    return best_sieve() if worker_device() == "cpu" else FP16


@lru_cache(maxsize=2)
def load_arithmetic(model: ArtifactRef, phases: ArtifactRef | None = None) -> Predictor | DevicePredictor:
    """Return a composition network ready to screen with; see `tasks.loading.load_predictor`."""
    predictor, device = load_predictor(model, phases), worker_device()
    return predictor if device == "cpu" else DevicePredictor(predictor, device)
