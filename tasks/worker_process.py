"""How the processes of local workers begin: forked from one that has imported, once, what they all need.

A worker that starts afresh imports for eight seconds of a core, most of it Prefect and torch. One forked from
`multiprocessing`'s fork server is there at once and shares those pages of memory with the others, a worker that takes
the place of a dead one too.
"""

from __future__ import annotations

import os
import sys
from multiprocessing import forkserver, get_all_start_methods
from threading import Lock
from typing import Literal

#: Variables that count when a library is imported: a process that has imported it is past changing them.
READ_AT_IMPORT = (
    "ARROW_", "CUDA_", "DASK_", "FSSPEC_", "GOMP_", "KMP_", "LD_", "MALLOC_", "MKL_", "NUMBA_", "NUMEXPR_", "OMP_",
    "OPENBLAS_", "PMG_", "PREFECT_", "PYTHON", "SSL_", "TORCH",
)  # fmt: skip
_PACKAGES = ("models", "storage", "tasks", "flows")
"""Whatever of these the first cluster's process has imported is imported for the workers, and all that these need."""
_HASHES = {"PYTHONHASHSEED": "6640"}
"""What Dask's nannies set where nothing is set, so that all workers hash alike."""

_begun: tuple[int | None, dict[str, str]] | None = None
"""The fork server that we started, and the environment that it began with."""
_lock = Lock()


def start_method(environment: dict[str, str]) -> tuple[Literal["forkserver", "spawn"], dict[str, str]]:
    """Say how Dask is to start workers with an environment, on this machine.

    The first call starts the fork server, which lives as long as this process. Workers start afresh where it cannot
    give them their environment: it has a variable that they must not have, or began with another value of one that
    counts at an import; or where it is not the one that we started.

    Parameters
    ----------
    environment
        What is added to this process's environment, where it has no such variable yet.

    Returns
    -------
    method
        For `distributed.worker.multiprocessing-method`.
    later
        Variables that a forked worker has to set itself.
    """
    # macOS has one, but its libraries do not all survive a fork
    if "forkserver" not in get_all_start_methods() or sys.platform == "darwin":
        return "spawn", {}
    wanted = _HASHES | environment | os.environ  # Dask, too, leaves a variable that is set already as it is
    with _lock:
        begun = _begun_with(wanted)
    if begun is None:
        return "spawn", {}
    later = {name: value for name, value in wanted.items() if begun.get(name) != value}
    if begun.keys() - wanted.keys() or any(name.startswith(READ_AT_IMPORT) for name in later):
        return "spawn", {}
    return "forkserver", later


def _begun_with(wanted: dict[str, str]) -> dict[str, str] | None:
    """Return the environment of our fork server, which the first call starts; None where another one runs."""
    global _begun
    if _begun is None and _server_pid() is None:
        _begin(wanted)
        _begun = _server_pid(), wanted
    # one that died is started again by whoever needs it, with the environment and the imports of that moment
    return _begun[1] if _begun is not None and _begun[0] == _server_pid() else None


def _server_pid() -> int | None:
    """Process of the fork server, None where there is none: the module has no public way to ask."""
    pid: int | None = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
    return pid


def _begin(environment: dict[str, str]) -> None:
    """Start the fork server with an environment; what it imports takes its own time, not ours."""
    ours = sorted(name for name in sys.modules if name.partition(".")[0] in _PACKAGES)
    forkserver.set_forkserver_preload([*ours, "prefect_dask"])
    missing = {name: value for name, value in environment.items() if name not in os.environ}
    os.environ.update(missing)
    try:
        forkserver.ensure_running()
    finally:
        for name in missing:
            os.environ.pop(name, None)
