"""What is in a store, what an artifact was made from, whether it is sound, and why a request found nothing."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from storage.artifact import MANIFEST, ArtifactRef, ArtifactRequest, Manifest
from storage.checks import load_manifest
from storage.errors import ArtifactNotFound, StoreError
from storage.lease import is_free, look
from storage.lookup import is_key, kind_of
from storage.scheme import EnergyScheme
from storage.store import ArtifactStore


@dataclass(frozen=True)
class CatalogRow:
    """One artifact in a listing.

    Attributes
    ----------
    key, kind, stage
        Which it is and what made it; the stage is empty when the manifest cannot be read.
    created
        When it was committed (UTC), or None where the store does not say.
    bytes
        Size of the payload.
    rows
        Rows of the main table, or None where there is none.
    inputs
        Keys it was made from.
    problem
        Why its manifest cannot be read, or None.
    """

    key: str
    kind: str
    stage: str
    created: dt.datetime | None
    bytes: int
    rows: int | None
    inputs: tuple[str, ...]
    problem: str | None = None


@dataclass(frozen=True)
class Verification:
    """Outcome for one artifact: `problem` is None when every file is as it was committed."""

    key: str
    problem: str | None


@dataclass(frozen=True)
class Ancestor:
    """One artifact in a line of descent: how deep, in which role, and whether it is still in the store."""

    depth: int
    role: str
    key: str
    stage: str
    present: bool


def catalog(store: ArtifactStore, kind: str | None = None) -> list[CatalogRow]:
    """Return a row for every artifact (of a kind), newest first; payloads are not read."""
    rows = []
    for key in store.keys(kind):
        created = created_at(store, key)
        try:
            manifest = load_manifest(store.backend, key)
        except ArtifactNotFound:
            continue
        except StoreError as error:
            rows.append(CatalogRow(key, kind_of(key), "", created, 0, None, (), str(error)))
            continue
        size = sum(entry.bytes for entry in manifest.payload)
        inputs = tuple(record.key for record in manifest.inputs.values())
        rows.append(CatalogRow(key, manifest.kind, manifest.stage, created, size, manifest.rows, inputs))
    oldest = dt.datetime.min.replace(tzinfo=dt.UTC)
    return sorted(rows, key=lambda row: (row.created or oldest, row.key), reverse=True)


def created_at(store: ArtifactStore, key: str) -> dt.datetime | None:
    """Return when an artifact was committed (UTC), from the time of its manifest."""
    seconds = store.backend.modified(f"{key}/{MANIFEST}")
    return None if seconds is None else dt.datetime.fromtimestamp(seconds, dt.UTC)


def show(store: ArtifactStore, text: str) -> dict[str, Any]:
    """Return reference, manifest, run record and payload addresses of one artifact, as plain values."""
    ref = store.resolve(text)
    manifest = store.manifest(ref)
    return {
        "reference": ref.model_dump(),
        "manifest": manifest.model_dump(),
        "run": store.run_record(ref),
        "files": [f"{ref.uri}/{manifest.attempt}/{entry.path}" for entry in manifest.payload],
    }


def verify(store: ArtifactStore, keys: Iterable[str] | None = None) -> list[Verification]:
    """Read every payload file of artifacts (all by default) and compare it with its manifest.

    Parameters
    ----------
    store
        The store.
    keys
        Keys, prefixes or folders; all artifacts of the store when None.
    """
    results = []
    for text in store.keys() if keys is None else keys:
        try:
            ref = _reference(store, text)
            store.verify(ref)
            results.append(Verification(ref.key, None))
        except ArtifactNotFound:
            raise
        except StoreError as error:
            results.append(Verification(text, str(error)))
    return results


def _reference(store: ArtifactStore, text: str) -> ArtifactRef:
    if not is_key(text):
        return store.resolve(text)
    manifest = load_manifest(store.backend, text)
    return ArtifactRef(kind=manifest.kind, key=text, digest=manifest.digest, uri=store.backend.uri(text))


def lineage(store: ArtifactStore, ref: ArtifactRef) -> list[Ancestor]:
    """Return the artifact and everything it was made from, depth first; inputs that are gone are named, too."""
    manifest = store.manifest(ref)
    return [Ancestor(0, "", ref.key, manifest.stage, True), *_ancestors(store, manifest, 1)]


def _ancestors(store: ArtifactStore, manifest: Manifest, depth: int) -> list[Ancestor]:
    found = []
    for role, record in manifest.inputs.items():
        parent = _manifest_or_none(store, record.key)
        found.append(Ancestor(depth, role, record.key, parent.stage if parent else "", parent is not None))
        if parent is not None:
            found.extend(_ancestors(store, parent, depth + 1))
    return found


def _manifest_or_none(store: ArtifactStore, key: str) -> Manifest | None:
    try:
        return load_manifest(store.backend, key)
    except StoreError:
        return None


@dataclass(frozen=True)
class _Identity:
    """What a key is made from, of a request or of a committed artifact, in comparable form."""

    key: str
    kind: str
    fields: dict[str, Any]
    inputs: dict[str, tuple[str, str]]


def why(store: ArtifactStore, wanted: ArtifactRequest | str, other: str | None = None) -> list[str]:
    """Explain why a request is not in the store, by what differs from the nearest artifact of its kind.

    Parameters
    ----------
    store
        The store.
    wanted
        A request, or the key (prefix, folder) of an artifact.
    other
        Artifact to compare with; the nearest one of the same kind by default.

    Returns
    -------
    list of str
        One line per finding; inputs that differ are followed back, indented, while their manifests are in the store.
    """
    if isinstance(wanted, ArtifactRequest):
        mine = _of_request(wanted)
        lines = _state(store, mine.key)
        if lines is None:
            return [f"{mine.key} is in the store, whole: a request for it is a hit"]
    else:
        ref = store.resolve(wanted)
        mine, lines = _of_manifest(store.manifest(ref)), []
    theirs = _other(store, mine, other)
    if theirs is None:
        return [*lines, f"there is no other artifact of kind {mine.kind} in {store.root} to compare {mine.key} with"]
    differences = _differences(store, mine, theirs, 0)
    if not differences:
        return [*lines, f"{mine.key} and {theirs.key} were asked for in the same way"]
    return [*lines, f"{mine.key} differs from {theirs.key} in:", *differences]


def _state(store: ArtifactStore, key: str) -> list[str] | None:
    """Return what the store has under a key, or None when the artifact is there and whole."""
    if store.find(key) is not None:
        return None
    if store.backend.exists(f"{key}/{MANIFEST}"):
        return [f"{key} is in the store but damaged; the next run sets it aside and builds it again"]
    sight = look(store.backend, key)
    if sight is not None and sight.holder is not None and not is_free(sight):
        return [f"{key} is being built by {sight.holder.label}"]
    unfinished = " (a run of it was ended before it finished)" if sight and not _released(sight.holder) else ""
    return [f"{key} is not in the store{unfinished}"]


def _released(holder: Any) -> bool:
    return holder is not None and bool(holder.released)


def _other(store: ArtifactStore, mine: _Identity, other: str | None) -> _Identity | None:
    if other is not None:
        return _of_manifest(store.manifest(store.resolve(other)))
    manifests = [_manifest_or_none(store, key) for key in store.keys(mine.kind) if key != mine.key]
    candidates = [_of_manifest(manifest) for manifest in manifests if manifest is not None]
    return min(candidates, key=lambda item: (_distance(mine, item), item.key), default=None)


def _of_request(request: ArtifactRequest) -> _Identity:
    fields = _fields(request.stage, request.stage_version, request.parameters, request.energy_scheme)
    inputs = {role: (ref.key, ref.digest) for role, ref in request.inputs.items()}
    return _Identity(request.key, request.kind, fields, inputs)


def _of_manifest(manifest: Manifest) -> _Identity:
    fields = _fields(manifest.stage, manifest.stage_version, manifest.parameters, manifest.energy_scheme)
    inputs = {role: (record.key, record.digest) for role, record in manifest.inputs.items()}
    return _Identity(manifest.key, manifest.kind, fields, inputs)


def _fields(stage: str, version: int, parameters: Mapping[str, Any], scheme: EnergyScheme | None) -> dict[str, Any]:
    fields: dict[str, Any] = {"stage": stage, "stage version": version, **_leaves("parameters", parameters)}
    fields.update(_leaves("energy scheme", scheme.model_dump()) if scheme else {})
    return fields


def _leaves(prefix: str, value: Mapping[str, Any]) -> dict[str, Any]:
    leaves: dict[str, Any] = {}
    for name, item in value.items():
        leaves.update(
            _leaves(f"{prefix}.{name}", item) if isinstance(item, dict) and item else {f"{prefix}.{name}": item}
        )
    return leaves


_ABSENT = object()


def _distance(a: _Identity, b: _Identity) -> int:
    fields = [name for name in {**a.fields, **b.fields} if a.fields.get(name, _ABSENT) != b.fields.get(name, _ABSENT)]
    return len(fields) + sum(_digest(a, role) != _digest(b, role) for role in {**a.inputs, **b.inputs})


def _digest(identity: _Identity, role: str) -> str | None:
    return identity.inputs[role][1] if role in identity.inputs else None


def _differences(store: ArtifactStore, mine: _Identity, theirs: _Identity, depth: int) -> list[str]:
    indent = "  " * (depth + 1)
    lines = []
    for name in sorted({**mine.fields, **theirs.fields}):
        here, there = mine.fields.get(name, _ABSENT), theirs.fields.get(name, _ABSENT)
        if here != there or type(here) is not type(there):
            lines.append(f"{indent}{name}: {_shown(here)}, there {_shown(there)}")
    for role in sorted({**mine.inputs, **theirs.inputs}):
        if _digest(mine, role) == _digest(theirs, role):
            continue
        keys = [identity.inputs[role][0] if role in identity.inputs else None for identity in (mine, theirs)]
        lines.append(f"{indent}input {role}: {keys[0] or 'absent'}, there {keys[1] or 'absent'}")
        parents = [_manifest_or_none(store, key) if key else None for key in keys]
        if keys[0] == keys[1]:
            lines.append(f"{indent}  the same request gave other content: its stage is not deterministic")
        elif parents[0] is not None and parents[1] is not None:
            lines.extend(_differences(store, _of_manifest(parents[0]), _of_manifest(parents[1]), depth + 1))
    return lines


def _shown(value: Any) -> str:
    if value is _ABSENT:
        return "absent"
    text = json.dumps(value, ensure_ascii=False, sort_keys=True)
    return text if len(text) <= 80 else f"{text[:77]}..."
