"""The artifact store: look an artifact up by its key, or build it once and commit it whole."""

from __future__ import annotations

import builtins
import contextlib
import datetime as dt
import hashlib
import io
import json
import logging
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from storage.artifact import MANIFEST, RUN_RECORD, ArtifactRef, ArtifactRequest, Manifest, PayloadFile, make_manifest
from storage.backends import Backend, disk_errors, full_disk, open_backend
from storage.canonical import pretty_bytes
from storage.checks import check_file, check_payload, load_manifest, verified_source
from storage.errors import ArtifactCorrupt, ArtifactNotFound, LeaseTimeout, StoreError
from storage.lease import Lease, Sight, Watch, acquire, look
from storage.lookup import committed_keys, is_key, locate, split_uri
from storage.parquet import read_parquet
from storage.run_record import run_record
from storage.writer import ArtifactWriter

logger = logging.getLogger(__name__)

ENVIRONMENT = "ELEMSCREEN_STORE"
DEFAULT_ROOT = "./elemscreen-store"
TEMPORARY = ".tmp"
SCRATCH = ".scratch"
DAMAGED = ".damaged"

_POLL_FIRST_S, _POLL_LAST_S = 0.02, 1.0


@dataclass(frozen=True)
class Built:
    """Result of `ArtifactStore.get_or_build`: the artifact, and whether it was there already."""

    ref: ArtifactRef
    cached: bool


def default_root() -> str:
    """Return the root of the store when none is given: ``ELEMSCREEN_STORE``, else ``./elemscreen-store``."""
    return os.environ.get(ENVIRONMENT) or DEFAULT_ROOT


class ArtifactStore:
    """Artifacts below one root.

    Parameters
    ----------
    root
        Folder or address (``s3://bucket/prefix``, ``gs://...``, ``memory://...``); `default_root` when None.
    **storage_options
        Passed to the fsspec driver, e.g. ``client_kwargs``. Credentials belong in the environment.

    Notes
    -----
    Layout: ``<key>/manifest.json``, ``<key>/<attempt>/<payload>``, ``<key>/<attempt>/run.json``, where the attempt is
    named after the content. An artifact exists exactly when its manifest does; the manifest is written last. Work in
    progress lies in ``.tmp`` and ``.scratch``, leases in ``.leases``, artifacts found altered in ``.damaged``.
    """

    def __init__(self, root: str | Path | None = None, **storage_options: Any) -> None:
        self.backend = open_backend(default_root() if root is None else root, **storage_options)
        self._options = storage_options

    @classmethod
    def from_ref(cls, ref: ArtifactRef, **storage_options: Any) -> ArtifactStore:
        """Return the store that a reference points into."""
        return cls(split_uri(ref.uri)[0], **storage_options)

    def __repr__(self) -> str:
        """Return the constructor call without options, which may hold credentials."""
        return f"ArtifactStore({self.root!r})"

    @property
    def root(self) -> str:
        """Root of the store: an absolute path or an address."""
        return self.backend.root

    # Building

    def get_or_build(
        self,
        request: ArtifactRequest,
        build: Callable[[ArtifactWriter], None],
        *,
        wait_s: float = 86_400,
        lease_s: float = 60,
    ) -> Built:
        """Return the artifact of a request, building it when it is not there (or damaged).

        Parameters
        ----------
        request
            What is wanted.
        build
            Writes the payload. What it raises is passed on, and then nothing of the artifact is visible.
        wait_s
            How long to wait for another process that is building the same key.
        lease_s
            Seconds without a heartbeat after which others may take our place; we beat three times as often.

        Raises
        ------
        LeaseTimeout
            When another process is still building after `wait_s`.
        StoreError
            For a full disk, a missing permission, or a store that does not answer.
        """
        deadline, delay, watch = time.monotonic() + wait_s, _POLL_FIRST_S, Watch(lease_s)
        while True:
            ref = self.find(request.key)
            if ref is not None:
                return Built(ref, cached=True)
            sight = look(self.backend, request.key)
            if watch.may_take_over(sight):
                lease = acquire(self.backend, request.key, sight, lease_s)
                if lease is not None:
                    with lease:
                        built = self._build(lease, request, build)
                    if built is not None:
                        return built
            if time.monotonic() >= deadline:
                raise LeaseTimeout(_waited(request.key, look(self.backend, request.key), wait_s))
            time.sleep(min(delay, max(0.0, deadline - time.monotonic())))
            delay = min(delay * 1.5, _POLL_LAST_S)

    def _build(self, lease: Lease, request: ArtifactRequest, build: Callable[[ArtifactWriter], None]) -> Built | None:
        key = request.key
        ref = self.find(key)
        if ref is not None:
            return Built(ref, cached=True)
        if self.backend.exists(f"{key}/{MANIFEST}"):
            self._set_aside(key)
        with self._temporary(key, lease.owner) as folder, full_disk(self.root, self.backend.local_root):
            started = dt.datetime.now(dt.UTC)
            writer = ArtifactWriter(folder, request)
            build(writer)
            payload = writer.finish()
            manifest = make_manifest(request, payload, writer.counts)
            (folder / RUN_RECORD).write_bytes(pretty_bytes(run_record(started, writer.notes)))
            if not lease.still_held():
                logger.warning("%s is being built by another process too; its result is used instead of ours", key)
                return None
            return self._commit(folder, manifest)

    def _commit(self, folder: Path, manifest: Manifest) -> Built:
        key, attempt = manifest.key, f"{manifest.key}/{manifest.attempt}"
        if not self._attempt_is_whole(attempt, manifest):
            self.backend.publish(folder, attempt)
        try:
            self.backend.create(f"{key}/{MANIFEST}", manifest.to_bytes())
        except FileExistsError:
            ref = self.find(key)
            if ref is None:
                raise ArtifactCorrupt(
                    f"artifact {key} was damaged while it was being built; run the stage again"
                ) from None
            return Built(ref, cached=True)
        shutil.rmtree(self.scratch_root / key, ignore_errors=True)
        return Built(self._ref(manifest, self.backend.uri(key)), cached=False)

    def _attempt_is_whole(self, attempt: str, manifest: Manifest) -> bool:
        """Whether a run that died before its manifest left this very payload; then it is not touched."""
        if set(self.backend.files(attempt)) != {entry.path for entry in manifest.payload} | {RUN_RECORD}:
            return False
        try:
            for entry in manifest.payload:
                check_file(self.backend, f"{attempt}/{entry.path}", entry, manifest.key)
        except ArtifactCorrupt:
            return False
        return True

    @contextmanager
    def _temporary(self, key: str, owner: str) -> Iterator[Path]:
        """Give a folder to build in: on a local store's own file system, so that publishing is a rename."""
        with disk_errors(self.root):
            if self.backend.local_root is not None:
                folder = self.backend.local_root / TEMPORARY / f"{key}.{owner}"
                folder.mkdir(parents=True)
            else:
                folder = Path(tempfile.mkdtemp(prefix=f"elemscreen-{key}-"))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _set_aside(self, key: str) -> None:
        place = f"{DAMAGED}/{key}.{uuid.uuid4().hex[:8]}"
        logger.warning("artifact %s is damaged; it was moved to %s and is built again", key, self.backend.uri(place))
        self.backend.move(key, place)

    # Looking up

    def find(self, key: str) -> ArtifactRef | None:
        """Return the verified artifact of a key, or None; a damaged one is logged and None."""
        try:
            manifest = load_manifest(self.backend, key)
            if manifest.key != key:
                place = self.backend.uri(key)
                raise ArtifactCorrupt(f"{place} holds the artifact {manifest.key}; move it to its own folder")
            check_payload(self.backend, key, manifest)
        except ArtifactNotFound:
            return None
        except ArtifactCorrupt as error:
            logger.warning("%s", error)
            return None
        return self._ref(manifest, self.backend.uri(key))

    def resolve(self, text: str | Path) -> ArtifactRef:
        """Return the artifact that a user means: a key, a unique prefix of a key, a folder or an address.

        Raises
        ------
        ArtifactNotFound
            When nothing answers; `AmbiguousKey` when more than one key has the prefix.
        ArtifactCorrupt
            When the artifact differs from its manifest.
        """
        root, folder = split_uri(locate(os.fspath(text), self.backend, self._backend_at))
        backend = self._backend_at(root)
        manifest = load_manifest(backend, folder)
        check_payload(backend, folder, manifest)
        return self._ref(manifest, backend.uri(folder))

    def keys(self, kind: str | None = None) -> builtins.list[str]:
        """Return the sorted keys that have a manifest, sound or not."""
        return committed_keys(self.backend, kind)

    def list(self, kind: str | None = None) -> builtins.list[ArtifactRef]:
        """Return all artifacts (of a kind); manifests are checked, payloads not, damaged ones logged and left out."""
        refs = []
        for key in self.keys(kind):
            try:
                refs.append(self._ref(load_manifest(self.backend, key), self.backend.uri(key)))
            except ArtifactNotFound:
                continue
            except ArtifactCorrupt as error:
                logger.warning("%s", error)
        return refs

    # Reading

    def manifest(self, ref: ArtifactRef) -> Manifest:
        """Return the manifest of an artifact, checked against itself and against the reference."""
        backend, folder = self._place(ref)
        manifest = load_manifest(backend, folder)
        if manifest.digest != ref.digest:
            raise ArtifactCorrupt(
                f"artifact {ref.uri} has changed since it was referenced; run the stage that made it again"
            )
        return manifest

    def verify(self, ref: ArtifactRef) -> Manifest:
        """Compare every payload file with the manifest, trusting nothing that was seen before.

        Raises
        ------
        ArtifactCorrupt
            When a file is missing, cut short or altered; the message names the first one.
        """
        backend, folder = self._place(ref)
        manifest = self.manifest(ref)
        check_payload(backend, folder, manifest, trust=False)
        return manifest

    def run_record(self, ref: ArtifactRef) -> dict[str, Any]:
        """Return ``run.json`` of an artifact; empty when it is gone, since nothing depends on it."""
        backend, folder = self._place(ref)
        try:
            record = json.loads(backend.read(f"{folder}/{self.manifest(ref).attempt}/{RUN_RECORD}"))
        except (FileNotFoundError, ValueError):
            return {}
        return record if isinstance(record, dict) else {}

    def read_table(
        self, ref: ArtifactRef, name: str | None = None, columns: builtins.list[str] | None = None
    ) -> pa.Table:
        """Read a table of an artifact, verified.

        Parameters
        ----------
        ref
            The artifact.
        name
            Name with or without ``.parquet``; its main table (``<kind>``), or its only one, by default. A table that
            was written in parts comes as a whole, parts in the order of their names.
        columns
            Columns to read; all by default.
        """
        manifest = self.manifest(ref)
        tables = []
        for entry in manifest.tables(name):
            source = self._source(ref, manifest, entry)
            file = pa.BufferReader(source) if isinstance(source, bytes) else source
            tables.append(read_parquet(file, f"{entry.path} of artifact {ref.key}", columns))
        return tables[0] if len(tables) == 1 else pa.concat_tables(tables)

    def read_bytes(self, ref: ArtifactRef, path: str) -> bytes:
        """Return a payload file, verified."""
        with self.open(ref, path) as file:
            return file.read()

    def open(self, ref: ArtifactRef, path: str) -> IO[bytes]:
        """Open a payload file for reading, verified."""
        manifest = self.manifest(ref)
        source = self._source(ref, manifest, manifest.file(path))
        return source.open("rb") if isinstance(source, Path) else io.BytesIO(source)

    def local_path(self, ref: ArtifactRef, path: str = "") -> Path:
        """Return the path of a payload file, verified (or of the payload folder), in a local store."""
        manifest = self.manifest(ref)
        backend, folder = self._place(ref)
        if backend.local_root is None:
            raise StoreError(f"{ref.uri} is not on a local disk; read it with read_table or open")
        if not path:
            return backend.local_root / folder / manifest.attempt
        source = self._source(ref, manifest, manifest.file(path))
        assert isinstance(source, Path)
        return source

    def _source(self, ref: ArtifactRef, manifest: Manifest, entry: PayloadFile) -> Path | bytes:
        return verified_source(*self._place(ref), manifest, entry)

    # Scratch

    def scratch(self, key: str) -> Path:
        """Return a local folder for checkpoints of a key under construction; it goes when the key is committed."""
        if not is_key(key):
            raise StoreError(f"'{key}' is no artifact key; use ArtifactRequest.key")
        folder = self.scratch_root / key
        with disk_errors(str(folder)):
            folder.mkdir(parents=True, exist_ok=True)
        return folder

    @property
    def scratch_root(self) -> Path:
        """Local folder of the checkpoints of this store's artifacts."""
        if self.backend.local_root is not None:
            return self.backend.local_root / SCRATCH
        name = hashlib.sha256(self.root.encode()).hexdigest()[:16]
        return _cache_folder() / "elemscreen" / "scratch" / name

    def _place(self, ref: ArtifactRef) -> tuple[Backend, str]:
        root, folder = split_uri(ref.uri)
        return self._backend_at(root), folder

    def _backend_at(self, root: str) -> Backend:
        if root == self.root:
            return self.backend
        same_kind = root.split("://")[0] == self.root.split("://")[0] if "://" in root else False
        return open_backend(root, **(self._options if same_kind else {}))

    @staticmethod
    def _ref(manifest: Manifest, uri: str) -> ArtifactRef:
        return ArtifactRef(kind=manifest.kind, key=manifest.key, digest=manifest.digest, uri=uri)


def _waited(key: str, sight: Sight | None, wait_s: float) -> str:
    holder = sight.holder.label if sight and sight.holder else "another process"
    return f"{key} is still being built by {holder} after {wait_s:g} s; wait for it, or end that process and run again"


def _cache_folder() -> Path:
    """Return the folder that this platform keeps caches in."""
    for variable in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        if os.environ.get(variable):
            return Path(os.environ[variable])
    mac = Path.home() / "Library" / "Caches"
    with contextlib.suppress(OSError):
        if mac.is_dir():
            return mac
    return Path.home() / ".cache"
