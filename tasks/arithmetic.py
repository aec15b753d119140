"""A composition network in the arithmetic of the worker's device."""

from __future__ import annotations

from functools import lru_cache

from models.device_predictor import FP16, DevicePredictor
from models.predictor import Predictor
from models.sieve import SIEVES, best_sieve, can_sieve, second_sieve
from storage.artifact import ArtifactRef
from tasks.device import worker_device
from tasks.loading import load_predictor


def sieve_kind() -> str | None:
    """Return the fastest reduced arithmetic of this worker; None: fp32 is as fast as any."""
    return best_sieve() if worker_device() == "cpu" else FP16


def second_kind(kind: str | None) -> str | None:
    """Return the finer arithmetic of this worker for what a sieve leaves; None for none."""
    return None if kind is None else second_sieve(kind)


def runs_here(kind: str) -> bool:
    """Whether this worker has a sieve: what was measured on another processor holds where the same bytes are summed."""
    return kind in SIEVES and can_sieve(kind) if worker_device() == "cpu" else kind == FP16


@lru_cache(maxsize=2)
def load_arithmetic(model: ArtifactRef, phases: ArtifactRef | None = None) -> Predictor | DevicePredictor:
    """Return a composition network ready to screen with; see `tasks.loading.load_predictor`."""
    predictor, device = load_predictor(model, phases), worker_device()
    return predictor if device == "cpu" else DevicePredictor(predictor, device)
