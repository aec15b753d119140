"""Which artifact a text means: a key, a prefix of one, a folder, an address."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from storage.artifact import MANIFEST
from storage.backends import Backend
from storage.errors import AmbiguousKey, ArtifactNotFound

_KEY = re.compile(r"[a-z][a-z0-9_]*-[0-9a-f]{24}")


def is_key(text: str) -> bool:
    """Whether a text has the form of a key."""
    return _KEY.fullmatch(text) is not None


def kind_of(key: str) -> str:
    """Return the kind in a key."""
    return key.rsplit("-", 1)[0]


def split_uri(uri: str) -> tuple[str, str]:
    """Split ``root/folder``; the root of ``memory://a`` is ``memory://``."""
    scheme, mark, rest = uri.partition("://")
    if not mark:
        path = Path(uri)
        return str(path.parent), path.name
    root, _, name = rest.strip("/").rpartition("/")
    return f"{scheme}://{root}", name


def committed_keys(backend: Backend, kind: str | None = None) -> list[str]:
    """Return the sorted keys (of a kind) that have a manifest, sound or not."""
    names = [name for name in backend.names() if is_key(name) and kind in (None, kind_of(name))]
    return [name for name in names if backend.exists(f"{name}/{MANIFEST}")]


def locate(text: str, backend: Backend, backend_at: Callable[[str], Backend]) -> str:
    """Return the folder or address of the artifact that `text` means.

    Parameters
    ----------
    text
        Key, unique prefix of a key (with or without the kind), folder or address of an artifact, of its payload, or of
        its manifest.
    backend
        The store in which keys are looked up.
    backend_at
        Gives the backend of any other root.

    Raises
    ------
    ArtifactNotFound
        When nothing answers.
    AmbiguousKey
        When more than one key has the prefix.
    """
    if "://" in text or os.sep in text or text.startswith((".", "~")):
        return _folder(text, backend_at)
    keys = committed_keys(backend)
    if text in keys:
        return backend.uri(text)
    if os.path.isfile(os.path.join(text, MANIFEST)):  # of pathlib's a text longer than a name can be is an error
        return os.path.abspath(text)
    found = [key for key in keys if text and (key.startswith(text) or key.rsplit("-", 1)[1].startswith(text))]
    if not found:
        raise ArtifactNotFound(f"no artifact '{text}' in the store {backend.root}; see elemscreen artifacts ls")
    if len(found) > 1:
        shown = ", ".join(found[:4]) + (", ..." if len(found) > 4 else "")
        raise AmbiguousKey(f"'{text}' could be any of {len(found)} artifacts ({shown}); give more of the key")
    return backend.uri(found[0])


def _folder(text: str, backend_at: Callable[[str], Backend]) -> str:
    folder = text if "://" in text else os.path.abspath(os.path.expanduser(text))
    folder = folder.rstrip("/").removesuffix(f"/{MANIFEST}")
    for candidate in (folder, split_uri(folder)[0]):
        root, name = split_uri(candidate)
        if name and backend_at(root).exists(f"{name}/{MANIFEST}"):
            return candidate
    raise ArtifactNotFound(f"there is no artifact in {text}; give the folder that holds its {MANIFEST}, or its key")
