"""What the C library does with memory that was freed: give it back to the system, or keep it for the next step.

A training step makes and frees gradients and activations of megabytes. By its defaults glibc returns such blocks to the
system, which hands them out again page by page, zeroed: 4,200 page faults and a sixth of the time of a step of ElemNet.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Names of glibc's settings in malloc.h: free memory at the end of a heap above which it is returned, and size of a
block from which on it is mapped by itself and unmapped when freed [bytes]."""

_LARGEST_MAPPED = 2**25
"""The largest that glibc takes, 32 MiB (mallopt(3), M_MMAP_THRESHOLD, on 64 bits)."""
_KEPT, _USUAL = 2**29, 2**26
"""Free memory that is kept while the block lasts, and afterwards [bytes]. The latter, twice the above, is what glibc
itself arrives at once a block of that size was freed."""


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Keep up to half a GiB of freed memory for as long as the block lasts; where the C library is not glibc, nothing.

    Half a GiB of the main heap: those of other threads are cut into pieces of 64 MiB, unless the process began with
    ``MALLOC_ARENA_MAX=1``. Afterwards what is free is returned, and what the environment sets holds again. The setting
    is the process's: of two blocks at a time, the first to end ends both, which costs time and nothing else.
    """
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    if library is None or not (hasattr(library, "mallopt") and hasattr(library, "malloc_trim")):
        yield
        return
    library.mallopt(_MMAP_THRESHOLD, _LARGEST_MAPPED)
    library.mallopt(_TRIM_THRESHOLD, _KEPT)
    try:
        yield
    finally:
        library.mallopt(_TRIM_THRESHOLD, _from_environment("MALLOC_TRIM_THRESHOLD_", _USUAL))
        library.mallopt(_MMAP_THRESHOLD, _from_environment("MALLOC_MMAP_THRESHOLD_", _LARGEST_MAPPED))
        library.malloc_trim(0)


def _from_environment(name: str, otherwise: int) -> int:
    value = os.environ.get(name, "")
    return int(value) if value.isdecimal() else otherwise
