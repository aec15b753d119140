"""Whether what lies in a store is what was committed: manifests against themselves, payload files against manifests."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from storage.artifact import MANIFEST, Manifest, PayloadFile, read_manifest
from storage.backends import Backend
from storage.errors import ArtifactCorrupt, ArtifactNotFound

# What was verified in this process: address of a file -> (fingerprint, SHA-256). A changed file has another one.
_verified: dict[str, tuple[Any, str]] = {}
_VERIFIED_LIMIT = 100_000
_BLOCK = 1 << 20


def load_manifest(backend: Backend, folder: str) -> Manifest:
    """Return the checked manifest of an artifact's folder; ArtifactNotFound when there is none."""
    path = f"{folder}/{MANIFEST}"
    try:
        data = backend.read(path)
    except FileNotFoundError as error:
        place = backend.uri(folder)
        raise ArtifactNotFound(f"there is no artifact in {place}; run the stage that makes it") from error
    return read_manifest(data, backend.uri(path))


def check_payload(backend: Backend, folder: str, manifest: Manifest, *, trust: bool = True) -> None:
    """Check every payload file of an artifact, see `check_file`."""
    for entry in manifest.payload:
        check_file(backend, f"{folder}/{manifest.attempt}/{entry.path}", entry, manifest.key, trust=trust)


def check_file(backend: Backend, path: str, entry: PayloadFile, key: str, *, trust: bool = True) -> None:
    """Compare the SHA-256 of a file with its manifest.

    Parameters
    ----------
    backend, path
        The file.
    entry, key
        What the manifest of which artifact says about it.
    trust
        Skip the reading when this process verified the file and its size, times and inode (or entity tag) are the same.

    Raises
    ------
    ArtifactCorrupt
        When it is missing, cut short or altered.
    """
    uri = backend.uri(path)
    try:
        fingerprint = backend.fingerprint(path)
        if trust and fingerprint is not None and _verified.get(uri) == (fingerprint, entry.sha256):
            return
        digest = _sha256(backend, path)
    except FileNotFoundError as error:
        raise ArtifactCorrupt(_missing(uri, key)) from error
    if digest != entry.sha256:
        _verified.pop(uri, None)
        raise ArtifactCorrupt(_altered(uri, key))
    if fingerprint is not None:
        if len(_verified) >= _VERIFIED_LIMIT:
            _verified.clear()
        # The fingerprint was taken before the reading: a change during it gives another one, and is read again.
        _verified[uri] = (fingerprint, digest)


def verified_source(backend: Backend, folder: str, manifest: Manifest, entry: PayloadFile) -> Path | bytes:
    """Return a verified payload file: its path in a local store, otherwise its bytes, downloaded once and hashed."""
    path = f"{folder}/{manifest.attempt}/{entry.path}"
    if backend.local_root is not None:
        check_file(backend, path, entry, manifest.key)
        return backend.local_root / path
    try:
        data = backend.read(path)
    except FileNotFoundError as error:
        raise ArtifactCorrupt(_missing(backend.uri(path), manifest.key)) from error
    if hashlib.sha256(data).hexdigest() != entry.sha256:
        raise ArtifactCorrupt(_altered(backend.uri(path), manifest.key))
    return data


def _sha256(backend: Backend, path: str) -> str:
    digest = hashlib.sha256()
    with backend.open(path) as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _missing(uri: str, key: str) -> str:
    return f"{uri} of artifact {key} is missing; run the stage that made it again to rebuild it"


def _altered(uri: str, key: str) -> str:
    return f"{uri} of artifact {key} is truncated or altered; run the stage that made it again to rebuild it"
