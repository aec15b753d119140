"""Housekeeping: remove what interrupted runs left, and artifacts that nobody needs any more."""

from __future__ import annotations

import datetime as dt
import logging
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from storage.artifact import MANIFEST, Manifest
from storage.catalog import created_at
from storage.checks import load_manifest
from storage.errors import ArtifactNotFound, StoreError
from storage.lease import FOLDER as LEASES
from storage.lease import Lease, acquire, is_free, is_live, look
from storage.lookup import committed_keys, is_key
from storage.store import DAMAGED, TEMPORARY, ArtifactStore

logger = logging.getLogger(__name__)

_LEASE_KEPT_S = 86_400.0
_GC_LEASE_S = 60.0
_WRITING_S = 60.0


@dataclass(frozen=True)
class Garbage:
    """Something that was (or would be) removed: where it lies, why, and its size in bytes."""

    path: str
    reason: str
    bytes: int


def gc(
    store: ArtifactStore, *, older_than: dt.timedelta | None = None, keep: Iterable[str] = (), dry_run: bool = False
) -> list[Garbage]:
    """Remove leftovers of interrupted runs and, when asked for, old artifacts.

    Leftovers are temporary folders and attempts without a manifest of runs that are dead, artifacts that were set
    aside as damaged, checkpoints of finished artifacts, and leases nobody holds. What a living run works on is never
    touched.

    Parameters
    ----------
    store
        The store.
    older_than
        Also remove artifacts, and checkpoints of unfinished ones, that are older than this. None removes neither.
    keep
        Keys, prefixes of keys, or kinds that stay whatever their age. What a remaining artifact was made from stays
        too.
    dry_run
        Remove nothing, only tell.

    Returns
    -------
    list of Garbage
        What was, or would be, removed.
    """
    removed = [*_leftovers(store, dry_run), *_scratch(store, older_than, dry_run)]
    if older_than is not None:
        removed.extend(_old_artifacts(store, older_than, tuple(keep), dry_run))
    removed.extend(_leases(store, dry_run))
    return removed


def _leftovers(store: ArtifactStore, dry_run: bool) -> Iterator[Garbage]:
    backend = store.backend
    for name in backend.names(TEMPORARY):
        key, _, owner = name.partition(".")
        sight = look(backend, key)
        at_work = sight is not None and not is_free(sight) and sight.holder is not None and sight.holder.owner == owner
        if not at_work:
            yield _remove(store, f"{TEMPORARY}/{name}", "unfinished build of a run that is gone", dry_run)
    for name in backend.names(DAMAGED):
        yield _remove(store, f"{DAMAGED}/{name}", "artifact that was found damaged", dry_run)
    for key in [name for name in backend.names() if is_key(name)]:
        yield from _unreferenced(store, key, dry_run)


def _unreferenced(store: ArtifactStore, key: str, dry_run: bool) -> Iterator[Garbage]:
    """Remove attempts that no manifest names, holding the key's lease so that no builder can be publishing one."""
    if not _stray(store, key):
        return
    lease = _lease(store, key)
    if lease is None:
        return
    with lease:
        for name in _stray(store, key):
            yield _remove(store, f"{key}/{name}", "payload that no manifest names", dry_run)
        if not dry_run and not store.backend.names(key):
            store.backend.delete(key)


def _lease(store: ArtifactStore, key: str) -> Lease | None:
    """Take the lease of a key, or None when somebody is building it."""
    sight = look(store.backend, key)
    return acquire(store.backend, key, sight, _GC_LEASE_S) if is_free(sight) else None


def _stray(store: ArtifactStore, key: str) -> list[str]:
    try:
        attempt = load_manifest(store.backend, key).attempt
    except ArtifactNotFound:
        attempt = ""
    except StoreError as error:
        # A damaged manifest is evidence: the next build sets the whole artifact aside.
        logger.warning("%s", error)
        return []
    return [name for name in store.backend.names(key) if name not in (MANIFEST, attempt)]


def _scratch(store: ArtifactStore, older_than: dt.timedelta | None, dry_run: bool) -> Iterator[Garbage]:
    root = store.scratch_root
    for folder in sorted(root.iterdir()) if root.is_dir() else []:
        if not is_key(folder.name) or is_live(store.backend, folder.name):
            continue
        finished = store.backend.exists(f"{folder.name}/{MANIFEST}")
        age = time.time() - max(path.stat().st_mtime for path in [folder, *folder.rglob("*")])
        if finished or (older_than is not None and age > older_than.total_seconds()):
            reason = "checkpoints of a finished artifact" if finished else "old checkpoints"
            size = _size(folder)
            if not dry_run:
                shutil.rmtree(folder)
            yield Garbage(str(folder), reason, size)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _old_artifacts(
    store: ArtifactStore, older_than: dt.timedelta, keep: tuple[str, ...], dry_run: bool
) -> Iterator[Garbage]:
    manifests = _manifests(store)
    limit = dt.datetime.now(dt.UTC) - older_than
    young = [key for key in manifests if (created_at(store, key) or limit) >= limit]
    needed = _with_inputs(manifests, [*young, *(key for key in manifests if key.startswith(keep))] if keep else young)
    for key in sorted(set(manifests) - needed):
        lease = _lease(store, key)
        if lease is None:
            continue
        with lease:
            days = older_than.total_seconds() / 86_400
            if not dry_run:
                # The manifest first: from here on the artifact does not exist, whatever happens to the rest.
                store.backend.delete(f"{key}/{MANIFEST}")
            yield _remove(store, key, f"older than {days:g} days and needed by nothing that stays", dry_run)


def _manifests(store: ArtifactStore) -> dict[str, Manifest]:
    found = {}
    for key in committed_keys(store.backend):
        try:
            found[key] = load_manifest(store.backend, key)
        except StoreError as error:
            logger.warning("%s", error)
    return found


def _with_inputs(manifests: dict[str, Manifest], keys: Iterable[str]) -> set[str]:
    needed: set[str] = set()
    waiting = list(keys)
    while waiting:
        key = waiting.pop()
        if key in needed or key not in manifests:
            continue
        needed.add(key)
        waiting.extend(record.key for record in manifests[key].inputs.values())
    return needed


def _leases(store: ArtifactStore, dry_run: bool) -> Iterator[Garbage]:
    for key in store.backend.names(LEASES):
        for name in store.backend.names(f"{LEASES}/{key}"):
            path = f"{LEASES}/{key}/{name}"
            if name.endswith(".tmp") and time.time() - (store.backend.modified(path) or 0) > _WRITING_S:
                yield _remove(store, path, "unfinished file of a run that is gone", dry_run)
        sight = look(store.backend, key)
        if sight is not None and is_free(sight) and sight.age_s > _LEASE_KEPT_S:
            yield _remove(store, f"{LEASES}/{key}", "lease that nobody holds", dry_run)


def _remove(store: ArtifactStore, path: str, reason: str, dry_run: bool) -> Garbage:
    size = sum(store.backend.files(path).values())
    if not dry_run:
        store.backend.delete(path)
    return Garbage(store.backend.uri(path), reason, size)
