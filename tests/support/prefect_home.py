"""Homes of new Prefect servers with a migrated database: migrating an empty one takes six seconds of processor."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from deployments.server import server_home

#: Names the folder of the copy, for all test processes and what they start.
VARIABLE = "ELEMSCREEN_TEST_PREFECT"
_DATABASE, _MEMO = "prefect.db", "memo_store.toml"


def keep_home(home: Path, kept: Path) -> None:
    """Copy what a running server made of its empty home, once."""
    os.environ[VARIABLE] = str(kept)
    if kept.exists():
        return
    folder = kept.with_name(f"{kept.name}.{os.getpid()}")
    folder.mkdir()
    with closing(sqlite3.connect(home / _DATABASE)) as source, closing(sqlite3.connect(folder / _DATABASE)) as copy:
        source.backup(copy)
    if (home / _MEMO).exists():
        shutil.copy(home / _MEMO, folder / _MEMO)
    try:
        folder.rename(kept)
    except OSError:  # another test process was faster
        shutil.rmtree(folder)


def prepared(store: Path) -> Path:
    """Give a store the home of a server that has been started before, if one has been; returns the store."""
    if kept := os.environ.get(VARIABLE):
        shutil.copytree(kept, server_home(store))
    return store
