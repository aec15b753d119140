"""A store in S3, GCS or memory, through fsspec and conditional puts."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from fsspec import AbstractFileSystem

from storage.backends import Backend, disk_errors
from storage.errors import StoreError

_memory_lock = threading.Lock()
_proven: set[str] = set()


class ObjectBackend(Backend):
    """Objects below a prefix. Listings are never taken from fsspec's cache: other processes write here too."""

    def __init__(self, filesystem: AbstractFileSystem, protocol: str, rest: str) -> None:
        self.fs = filesystem
        self.protocol = protocol
        self._base = rest.strip("/")
        self.root = f"{protocol}://{self._base}"

    @property
    def local_root(self) -> Path | None:
        """None: there is no local folder."""
        return None

    def _path(self, path: str) -> str:
        full = "/".join(part for part in (self._base, path) if part)
        return f"/{full}" if self.protocol == "memory" else full

    @contextmanager
    def _fresh(self, path: str) -> Iterator[str]:
        full = self._path(path)
        with disk_errors(self.uri(path)):
            self.fs.invalidate_cache()
            yield full

    @contextmanager
    def _writing(self, path: str) -> Iterator[str]:
        try:
            with self._fresh(path) as full:
                yield full
        except FileNotFoundError as error:
            raise StoreError(f"there is no bucket for {self.root}; create it or correct the address") from error

    def read(self, path: str) -> bytes:
        """Return the bytes of an object."""
        with self._fresh(path) as full:
            return bytes(self.fs.cat_file(full))

    def open(self, path: str) -> IO[bytes]:
        """Open an object for reading, with read-ahead."""
        with self._fresh(path) as full:
            opened: IO[bytes] = self.fs.open(full, "rb")
            return opened

    def exists(self, path: str) -> bool:
        """Whether an object or a prefix is there."""
        with self._fresh(path) as full:
            return bool(self.fs.exists(full))

    def names(self, path: str = "") -> list[str]:
        """Return the sorted names below a prefix."""
        try:
            with self._fresh(path) as full:
                entries = self.fs.ls(full, detail=False)
        except FileNotFoundError:
            return []
        names = {entry.rstrip("/").rsplit("/", 1)[-1] for entry in entries if entry.strip("/") != full.strip("/")}
        return sorted(names)

    def files(self, path: str) -> dict[str, int]:
        """Return size by relative path of all objects below a prefix."""
        with self._fresh(path) as full:
            found = self.fs.find(full, detail=True)
        start = len(full.strip("/")) + 1
        return {name.strip("/")[start:]: int(info["size"]) for name, info in sorted(found.items())}

    def create(self, path: str, data: bytes, *, durable: bool = True) -> None:
        """Put an object only if it is absent (S3 If-None-Match, GCS generation 0)."""
        self._prove()
        try:
            self._conditional_put(path, data)
        except FileExistsError:
            # A put whose answer was lost is repeated by the driver and then finds itself.
            if self.read(path) != data:
                raise

    def _conditional_put(self, path: str, data: bytes) -> None:
        with self._writing(path) as full:
            if self.protocol != "memory":
                self.fs.pipe_file(full, data, mode="create")
                return
            with _memory_lock:
                if self.fs.exists(full):
                    raise FileExistsError(full)
                self.fs.pipe_file(full, data)

    def _prove(self) -> None:
        """Put one object twice: a server that takes the second one would let two builders overwrite each other."""
        if self.protocol == "memory" or self.root in _proven:
            return
        probe = f".probe/{uuid.uuid4().hex}"
        try:
            self._conditional_put(probe, b"1")
            try:
                self._conditional_put(probe, b"2")
            except FileExistsError:
                _proven.add(self.root)
                return
        except NotImplementedError as error:
            raise StoreError(self._no_conditional_put()) from error
        finally:
            self.delete(probe)
        raise StoreError(self._no_conditional_put())

    def _no_conditional_put(self) -> str:
        return (
            f"the server behind {self.root} does not support conditional puts (If-None-Match), so two runs could "
            "overwrite each other; use a server that does (AWS S3, GCS, MinIO since 2024) or a local folder"
        )

    def replace(self, path: str, data: bytes, *, durable: bool = True) -> None:
        """Put an object, over an old one."""
        with self._writing(path) as full:
            self.fs.pipe_file(full, data)

    def publish(self, folder: Path, path: str) -> None:
        """Upload every file; nobody looks at them before a manifest names them."""
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                with self._writing(path) as full:
                    self.fs.put_file(str(file), f"{full}/{file.relative_to(folder).as_posix()}")

    def move(self, path: str, target: str) -> None:
        """Copy and delete, object by object; the manifest goes first, so that what is left is never half visible."""
        names = sorted(self.files(path), key=lambda name: (not name.endswith("manifest.json"), name))
        for name in names:
            with self._fresh(path):
                source = self._path(f"{path}/{name}")
                self.fs.copy(source, self._path(f"{target}/{name}"))
                self.fs.rm_file(source)

    def delete(self, path: str) -> None:
        """Delete an object or all below a prefix."""
        try:
            with self._fresh(path) as full:
                self.fs.rm(full, recursive=True)
        except FileNotFoundError:
            return

    def fingerprint(self, path: str) -> tuple[Any, ...] | None:
        """Return the entity tag, size and time where the server gives them."""
        with self._fresh(path) as full:
            info = self.fs.info(full)
        tag = info.get("ETag") or info.get("etag")
        return (tag, info.get("size"), str(info.get("LastModified"))) if tag else None

    def modified(self, path: str) -> float | None:
        """Return the time of the last put."""
        try:
            with self._fresh(path) as full:
                return float(self.fs.modified(full).timestamp())
        except (FileNotFoundError, NotImplementedError):
            return None
