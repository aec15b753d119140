"""Where the store is."""

from __future__ import annotations

import os
from pathlib import Path

DEFAULT_STORE = "elemscreen-store"


def store_root(store: str | None) -> str:
    """Return the store's folder (absolute) or URL: as given, from $ELEMSCREEN_STORE, or ./elemscreen-store."""
    root = store or os.environ.get("ELEMSCREEN_STORE") or DEFAULT_STORE
    return root if "://" in root else str(Path(root).expanduser().absolute())
