"""Room on the disk that is kept for whoever has to say that it is full."""

from __future__ import annotations

import errno
import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from storage import reserve
from storage.backends import LocalBackend
from storage.errors import StoreError
from storage.reserve import RESERVE_BYTES, give_back, is_full, keep_reserve

Usage = namedtuple("Usage", "total used free")


def test_it_takes_room_once_and_gives_it_back(tmp_path: Path) -> None:
    keep_reserve(tmp_path)
    (kept,) = tmp_path.iterdir()
    assert kept.stat().st_size == RESERVE_BYTES
    assert kept.stat().st_blocks * 512 >= RESERVE_BYTES  # not a file of holes
    keep_reserve(tmp_path)
    assert give_back(tmp_path)
    assert not give_back(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_without_room_has_no_reserve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    keep_reserve(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("kept", "free", "full"), [(True, 0, True), (True, 2**21, False), (False, 2**21, True), (False, 2**24, False)]
)
def test_what_was_kept_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: bool, free: int, full: bool
) -> None:
    if kept:
        keep_reserve(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(2**30, 2**30 - free, free))
    assert is_full(tmp_path) is full


def test_small_files_use_it_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = LocalBackend(tmp_path)
    write = LocalBackend._temporary

    def as_long_as_there_is_room(target: Path, data: bytes, durable: bool) -> Path:
        if (tmp_path / reserve._NAME).exists():
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(target, data, durable)

    monkeypatch.setattr(LocalBackend, "_temporary", staticmethod(as_long_as_there_is_room))
    keep_reserve(tmp_path)
    backend.create("lease/1.json", b"released")
    assert backend.read("lease/1.json") == b"released"
    assert not give_back(tmp_path)  # it is used up

    def never(*_: object) -> Path:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(LocalBackend, "_temporary", staticmethod(never))
    with pytest.raises(StoreError, match="no space left for"):
        backend.create("lease/2.json", b"released")
