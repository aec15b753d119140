"""The record of one run of a stage: times, host, versions, memory. Outside every digest."""

from __future__ import annotations

import datetime as dt
import os
import platform
import socket
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from storage.artifact import code_version

LIBRARIES = (
    "numpy", "pyarrow", "pandas", "scipy", "torch", "numba", "scikit-learn", "pymatgen", "matminer", "chgnet",
    "prefect", "dask", "distributed", "fsspec", "s3fs", "gcsfs", "safetensors", "pydantic",
)  # fmt: skip


def run_record(started: dt.datetime, notes: dict[str, Any]) -> dict[str, Any]:
    """Return what ``run.json`` holds.

    Parameters
    ----------
    started
        When the stage began to build (UTC).
    notes
        What the stage itself noted, e.g. seconds per epoch or the device.
    """
    finished = dt.datetime.now(dt.UTC)
    return {
        "started": started.isoformat(timespec="milliseconds"),
        "finished": finished.isoformat(timespec="milliseconds"),
        "seconds": round((finished - started).total_seconds(), 3),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "code_version": code_version(),
        "libraries": library_versions(),
        "peak_rss_bytes": peak_rss_bytes(),
        "notes": notes,
    }


@cache
def library_versions() -> dict[str, str]:
    """Return the versions of the libraries that decide results, where they are installed; looked up once."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def peak_rss_bytes() -> int | None:
    """Return the peak resident memory of this process so far in bytes, or None where the system does not say."""
    try:
        import resource
    except ImportError:  # pragma: no cover - Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)
