"""Where a store lies: a local folder, or an object store behind fsspec. Both can create a file only if it is absent."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import fsspec
from fsspec.core import split_protocol

from storage.errors import StoreError
from storage.reserve import give_back

CONDITIONAL_PUT = ("memory", "s3", "s3a", "gs", "gcs")
"""fsspec protocols whose ``pipe_file(mode="create")`` fails atomically when the object exists."""

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextlib.contextmanager
def disk_errors(where: str) -> Iterator[None]:
    """Turn a full disk, a missing permission and a failed connection into one StoreError with its remedy."""
    try:
        yield
    except (FileExistsError, FileNotFoundError):
        raise
    except Exception as error:
        message = storage_failure(error, where)
        if message is None:
            raise
        raise StoreError(message) from error


@contextlib.contextmanager
def full_disk(root: str, folder: Path | None) -> Iterator[None]:
    """Turn a full disk anywhere in a build into one StoreError; every other exception of a stage passes unchanged."""
    try:
        yield
    except OSError as error:
        if error.errno in _NO_SPACE:
            if folder is not None:
                give_back(folder)
            raise StoreError(str(storage_failure(error, root))) from error
        raise


def storage_failure(error: BaseException, where: str) -> str | None:
    """Return the one-line message for an error that the disk or the object store caused, or None for any other."""
    if isinstance(error, OSError) and error.errno in _NO_SPACE:
        return f"no space left for {where}; free some and run again (what is finished stays, nothing is half-written)"
    if isinstance(error, PermissionError) or (isinstance(error, OSError) and error.errno == errno.EROFS):
        return f"no permission for {where}; change its permissions or choose another store with ELEMSCREEN_STORE"
    if isinstance(error, NotADirectoryError):
        return f"{where} runs through a file, not a folder; choose another store with ELEMSCREEN_STORE"
    if type(error).__module__.split(".")[0] in ("botocore", "aiobotocore", "aiohttp", "gcsfs"):
        detail = " ".join(str(error).split())
        return f"the object store fails at {where} ({detail}); check its address and the credentials in the environment"
    return None


class Backend(ABC):
    """Files below a root, by relative POSIX path. `create` never overwrites and is atomic between processes."""

    root: str

    @property
    @abstractmethod
    def local_root(self) -> Path | None:
        """The root as a local folder, or None."""

    @abstractmethod
    def read(self, path: str) -> bytes:
        """Return the bytes of a file; FileNotFoundError when it is absent."""

    @abstractmethod
    def open(self, path: str) -> IO[bytes]:
        """Open a file for reading."""

    @abstractmethod
    def exists(self, path: str) -> bool:
        """Whether a file or folder is there."""

    @abstractmethod
    def names(self, path: str = "") -> list[str]:
        """Return the sorted names in a folder; empty when it is absent."""

    @abstractmethod
    def files(self, path: str) -> dict[str, int]:
        """Return size (bytes) by relative path of all files below a folder."""

    @abstractmethod
    def create(self, path: str, data: bytes, *, durable: bool = True) -> None:
        """Write a file whole, only if it is absent (else FileExistsError); `durable`: it survives a power cut."""

    @abstractmethod
    def replace(self, path: str, data: bytes, *, durable: bool = True) -> None:
        """Write a file whole, over an old one; `durable`: it survives a power cut."""

    @abstractmethod
    def publish(self, folder: Path, path: str) -> None:
        """Make a finished local folder appear at `path`, durably; an older folder there is replaced."""

    @abstractmethod
    def move(self, path: str, target: str) -> None:
        """Move a folder."""

    @abstractmethod
    def delete(self, path: str) -> None:
        """Delete a file or a folder with all in it; nothing happens when it is absent."""

    @abstractmethod
    def fingerprint(self, path: str) -> tuple[Any, ...] | None:
        """Return something that changes whenever the file does, or None where there is no such thing."""

    @abstractmethod
    def modified(self, path: str) -> float | None:
        """Return the time of the last change (s since the epoch), or None where unknown or absent."""

    def uri(self, path: str) -> str:
        """Return the full path or address of a relative path."""
        return f"{self.root}/{path}" if path else self.root


class LocalBackend(Backend):
    """A folder on a local (or network-mounted) file system."""

    def __init__(self, root: Path) -> None:
        self._root = Path(os.path.abspath(root.expanduser()))
        self.root = str(self._root)
        if self._root.exists() and not self._root.is_dir():
            raise StoreError(
                f"the store {self.root} is a file, not a folder; choose another place with ELEMSCREEN_STORE"
            )

    @property
    def local_root(self) -> Path | None:
        """The root folder."""
        return self._root

    def path(self, path: str) -> Path:
        """Return the absolute path of a relative one."""
        return self._root / path

    def read(self, path: str) -> bytes:
        """Return the bytes of a file."""
        with disk_errors(self.uri(path)):
            return self.path(path).read_bytes()

    def open(self, path: str) -> IO[bytes]:
        """Open a file for reading."""
        with disk_errors(self.uri(path)):
            return self.path(path).open("rb")

    def exists(self, path: str) -> bool:
        """Whether a file or folder is there."""
        return self.path(path).exists()

    def names(self, path: str = "") -> list[str]:
        """Return the sorted names in a folder."""
        try:
            with disk_errors(self.uri(path)):
                return sorted(os.listdir(self.path(path)))
        except FileNotFoundError:
            return []

    def files(self, path: str) -> dict[str, int]:
        """Return size by relative path of all files below a folder."""
        base = self.path(path)
        found = {}
        for folder, _, names in os.walk(base):
            for name in names:
                file = Path(folder, name)
                with contextlib.suppress(FileNotFoundError):
                    found[file.relative_to(base).as_posix()] = file.lstat().st_size
        return dict(sorted(found.items()))

    def create(self, path: str, data: bytes, *, durable: bool = True) -> None:
        """Write a temporary file, fsync it, link it to its name (which fails when that exists), fsync the folder."""
        target = self.path(path)
        with disk_errors(str(target)):
            temporary = self._small_file(target, data, durable)
            try:
                link_new(temporary, target)
            finally:
                temporary.unlink(missing_ok=True)
            if durable:
                sync_folder(target.parent)

    def replace(self, path: str, data: bytes, *, durable: bool = True) -> None:
        """Write a temporary file, fsync it, rename it over the old one, fsync the folder."""
        target = self.path(path)
        with disk_errors(str(target)):
            os.replace(self._small_file(target, data, durable), target)
            if durable:
                sync_folder(target.parent)

    def _small_file(self, target: Path, data: bytes, durable: bool) -> Path:
        """Write a file that keeps the store in order, on a full disk from the room that was kept for such."""
        try:
            return self._temporary(target, data, durable)
        except OSError as error:
            if error.errno not in _NO_SPACE or not give_back(self._root):
                raise
        return self._temporary(target, data, durable)

    @staticmethod
    def _temporary(target: Path, data: bytes, durable: bool) -> Path:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.parent / f".{target.name}.{uuid.uuid4().hex}.tmp"
        try:
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                if durable:
                    os.fsync(file.fileno())
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        return temporary

    def publish(self, folder: Path, path: str) -> None:
        """Fsync every file of a folder on the same file system and rename the folder to its name."""
        target = self.path(path)
        with disk_errors(str(target)):
            sync_tree(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.exists():
                old = folder.parent / f"{folder.name}.replaced.{uuid.uuid4().hex}"
                os.rename(target, old)
                os.rename(folder, target)
                shutil.rmtree(old, ignore_errors=True)
            else:
                os.rename(folder, target)
            sync_folder(target.parent)
            sync_folder(self._root)

    def move(self, path: str, target: str) -> None:
        """Rename a folder."""
        with disk_errors(self.uri(target)):
            self.path(target).parent.mkdir(parents=True, exist_ok=True)
            os.rename(self.path(path), self.path(target))

    def delete(self, path: str) -> None:
        """Delete a file or folder."""
        target = self.path(path)
        with disk_errors(str(target)), contextlib.suppress(FileNotFoundError):
            if target.is_dir() and not target.is_symlink():
                shutil.rmtree(target)
            else:
                target.unlink()

    def fingerprint(self, path: str) -> tuple[Any, ...] | None:
        """Return size, times and inode."""
        stat = self.path(path).stat()
        return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino

    def modified(self, path: str) -> float | None:
        """Return the modification time."""
        try:
            return self.path(path).stat().st_mtime
        except FileNotFoundError:
            return None


def link_new(temporary: Path, target: Path) -> None:
    """Give a finished file its name, or raise FileExistsError; a file system without hard links gets O_EXCL."""
    try:
        os.link(temporary, target)
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS):
            raise
        # The name is claimed empty first; who reads it in between sees an unfinished file, which counts as damaged.
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
        os.replace(temporary, target)


def sync_folder(folder: Path) -> None:
    """Fsync a folder, so that names in it survive a power cut."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # pragma: no cover - folders cannot be opened on Windows
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Fsync every file and folder below (and with) a folder."""
    for base, _, names in os.walk(folder):
        for name in names:
            with Path(base, name).open("rb") as file:
                os.fsync(file.fileno())
        sync_folder(Path(base))


def open_backend(root: str | Path, **options: Any) -> Backend:
    """Return the backend of a path or address.

    Raises
    ------
    StoreError
        For a protocol that is unknown, needs a package that is not installed, or cannot create a file only if absent.
    """
    protocol, rest = split_protocol(str(root))
    if protocol in (None, "file", "local"):
        return LocalBackend(Path(rest))
    if protocol not in CONDITIONAL_PUT:
        raise StoreError(
            f"a store cannot lie at {protocol}://: it needs conditional puts (create a file only if it is absent); "
            "use a local folder, s3:// or gs://"
        )
    from storage.object_backend import ObjectBackend  # the import of its fsspec driver takes long

    try:
        filesystem = fsspec.filesystem(protocol, **options)
    except (ImportError, ValueError) as error:
        detail = " ".join(str(error).split())
        raise StoreError(
            f"no driver for {protocol}:// ({detail}); install it, e.g. pip install s3fs or gcsfs"
        ) from error
    return ObjectBackend(filesystem, protocol, rest)
