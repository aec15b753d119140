"""How the processes of local workers begin: forked from one that has imported, once, what they all need.

A worker that starts afresh imports for eight seconds of a core, most of it Prefect and torch. One forked from
`multiprocessing`'s fork server is there at once and shares those pages of memory with the others, a worker that takes
the place of a dead one too.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from multiprocessing import forkserver, get_all_start_methods
from typing import Literal

#: Variables that count when a library is imported: a process that has imported it is past changing them.
READ_AT_IMPORT = (
    "CUDA_",
    "DASK_",
    "KMP_",
    "MALLOC_",
    "MKL_",
    "NUMBA_",
    "OMP_",
    "OPENBLAS_",
    "PREFECT_",
    "PYTHON",
    "TORCH",
)
_PACKAGES = ("models", "storage", "tasks", "flows")
"""Whatever of these the first cluster's process has imported is imported for the workers, and all that these need."""

_HASHES = {"PYTHONHASHSEED": "6640"}
"""What Dask's nannies set where nothing is set, so that all workers hash alike."""

_begun_with: dict[str, str] | None = None


def start_method(environment: dict[str, str]) -> tuple[Literal["forkserver", "spawn"], dict[str, str]]:
    """Say how Dask is to start workers with an environment, on this machine.

    The first call starts the fork server, which lives as long as this process. Workers whose environment it cannot
    give them, since it has a variable that they must not have or began with another value of one that counts at an
    import, start afresh.

    Parameters
    ----------
    environment
        What is added to this process's environment.

    Returns
    -------
    method
        For `distributed.worker.multiprocessing-method`.
    later
        What a forked worker has to set itself, for `distributed.nanny.environ`.
    """
    global _begun_with
    if "forkserver" not in get_all_start_methods():
        return "spawn", {}
    wanted = _HASHES | environment | os.environ  # Dask, too, leaves a variable that is set already as it is
    if _begun_with is None:
        _begin(wanted)
        _begun_with = wanted
    later = {name: value for name, value in wanted.items() if _begun_with.get(name) != value}
    if _begun_with.keys() - wanted.keys() or any(name.startswith(READ_AT_IMPORT) for name in later):
        return "spawn", {}
    return "forkserver", later


def _begin(environment: Mapping[str, str]) -> None:
    """Start the fork server with an environment; what it imports takes its own time, not ours."""
    ours = sorted(name for name in sys.modules if name.partition(".")[0] in _PACKAGES)
    forkserver.set_forkserver_preload([*ours, "prefect_dask"])
    before = dict(os.environ)
    try:
        os.environ.update(environment)
        forkserver.ensure_running()
    finally:
        os.environ.clear()
        os.environ.update(before)
