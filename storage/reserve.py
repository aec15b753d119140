"""A little room on a store's disk, given back when the disk is full.

On a full disk the Prefect server that lives beside the store cannot write that a task failed, and the one clear error
drowns in its own. So a few megabytes are kept while a run lasts, and whoever first finds the disk full frees them.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

RESERVE_BYTES: Final = 8 * 2**20
"""Enough for a server to record the end of some hundred tasks."""
_NAME: Final = ".reserve"
_NEARLY_FULL: Final = 2**20


def keep_reserve(folder: Path) -> None:
    """Keep room in a store's folder; nothing happens where the disk has none, or files take no room beforehand."""
    target = folder / _NAME
    if target.exists() or not hasattr(os, "posix_fallocate"):
        return
    try:
        with target.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, RESERVE_BYTES)
    except OSError:  # no room, or a file system that cannot: then there is no reserve
        target.unlink(missing_ok=True)


def give_back(folder: Path) -> bool:
    """Free the room, and say whether there was any."""
    try:
        (folder / _NAME).unlink()
    except OSError:
        return False
    return True


def is_full(folder: Path) -> bool:
    """Whether hardly anything more can be written to the disk of a folder, what is or was kept not counted."""
    room = 0 if (folder / _NAME).exists() else RESERVE_BYTES
    return shutil.disk_usage(folder).free < room + _NEARLY_FULL
