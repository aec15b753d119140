"""What a worker computes with: the cores of its processor or, where its profile says so, a GPU."""

from __future__ import annotations

import os
from typing import Final

from models.errors import InputError

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
