"""Whole or absent: under SIGKILL at every step of a commit, and on a full disk."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from storage.artifact import ArtifactRequest, make_manifest
from storage.backends import LocalBackend, link_new, storage_failure
from storage.errors import StoreError
from storage.garbage import gc
from storage.store import ArtifactStore
from storage.writer import ArtifactWriter

Build = Callable[[ArtifactWriter], None]
Make = Callable[..., ArtifactRequest]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")

STAGE = """
import os, sys, time
import pyarrow as pa
from storage.artifact import ArtifactRequest
from storage.store import ArtifactStore

REQUEST = ArtifactRequest("formulas", "tasks.novelty", 1, {"a": 1})
TABLE = pa.table({"formula": ["NaCl"] * 50, "chemsys": ["Cl-Na"] * 50, "source": ["file"] * 50})

def build(writer):
    writer.write_table("formulas", TABLE, "formulas")
    writer.write_bytes("extra/notes.txt", b"x" * 1000)
    writer.count("read", 50)
"""

# Kills itself at the n-th file operation of a build, before or after doing it, for every n. One forked child per point.
KILL_EVERYWHERE = (
    STAGE
    + """
import json, signal
from pathlib import Path
from storage.garbage import gc
import storage.store

OPERATIONS = ["fsync", "rename", "replace", "link", "mkdir", "unlink", "rmdir"]

def tree(folder):
    files = (path for path in Path(folder).rglob("*") if path.is_file() and path.name != "run.json")
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(files)}

def run_until(root, point, after):
    seen = 0
    def hook(name, real):
        def call(*args, **kwargs):
            nonlocal seen
            seen += 1
            if seen == point and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            result = real(*args, **kwargs)
            if seen == point and after:
                os.kill(os.getpid(), signal.SIGKILL)
            return result
        return call
    for name in OPERATIONS:
        setattr(os, name, hook(name, getattr(os, name)))
    ArtifactStore(root).get_or_build(REQUEST, build)
    os._exit(0)

base = Path(sys.argv[1])
whole = ArtifactStore(base / "whole").get_or_build(REQUEST, build).ref
expected = tree(whole.uri)
report = []
for after in (False, True):
    for point in range(1, 200):
        root = base / f"{point}-{after}"
        child = os.fork()
        if child == 0:
            run_until(root, point, after)
        status = os.waitpid(child, 0)[1]
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        store = ArtifactStore(root)
        found = store.find(REQUEST.key)
        started = time.monotonic()
        built = store.get_or_build(REQUEST, build, wait_s=5)
        waited = time.monotonic() - started
        for path in root.rglob(".leases/*/*.tmp"):
            os.utime(path, (0, 0))  # young ones stay, somebody may be writing them
        gc(store)
        left = sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())
        report.append({
            "killed": killed, "status": status, "visible": found is not None, "cached": built.cached, "waited": waited,
            "same": tree(built.ref.uri) == expected and built.ref.digest == whole.digest,
            "left": [path for path in left if not path.startswith((REQUEST.key, ".leases")) or path.endswith(".tmp")],
        })
        if not killed:
            break
    else:
        raise SystemExit("never came to the end")
print(json.dumps(report))
"""
)


def test_killed_at_every_step(start_python: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    out, err = start_python(KILL_EVERYWHERE, str(tmp_path)).communicate(timeout=120)
    report = json.loads(out.splitlines()[-1]) if out else pytest.fail(err)
    kills = [step for step in report if step["killed"]]
    assert len(kills) >= 24  # of both sorts: the file operations of one commit
    assert [step["status"] for step in report if not step["killed"]] == [0, 0]
    assert any(step["visible"] for step in kills)  # killed after the manifest: whole
    assert any(not step["visible"] for step in kills)
    for step in report:
        assert step["same"], step
        assert step["cached"] == step["visible"], step
        assert step["waited"] < 4, step  # the dead process's lease is taken over at once
        assert step["left"] == [], step


SLOW = (
    STAGE
    + """
def slow(writer):
    build(writer)
    print("building", flush=True)
    time.sleep(60)

ArtifactStore(sys.argv[1]).get_or_build(REQUEST, slow)
"""
)


def test_killed_in_the_middle_of_a_build(start_python: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    process = start_python(SLOW, str(tmp_path / "store"))
    assert process.stdout is not None
    assert process.stdout.readline() == "building\n"
    store = ArtifactStore(tmp_path / "store")
    process.send_signal(signal.SIGKILL)
    process.wait()
    names: dict[str, object] = {}
    exec(STAGE, names)
    request, build = names["REQUEST"], names["build"]
    assert isinstance(request, ArtifactRequest)
    assert store.find(request.key) is None
    assert store.list() == []
    started = time.monotonic()
    built = store.get_or_build(request, build)  # type: ignore[arg-type]
    assert time.monotonic() - started < 5
    reference = ArtifactStore(tmp_path / "other").get_or_build(request, build)  # type: ignore[arg-type]
    assert built.ref.digest == reference.ref.digest
    assert Path(built.ref.uri, "manifest.json").read_bytes() == Path(reference.ref.uri, "manifest.json").read_bytes()
    left = gc(store)
    assert [item.reason for item in left] == ["unfinished build of a run that is gone"]
    assert left[0].bytes > 1_000
    assert gc(store) == []


# A file may grow to 30 kB only: the kernel then fails the write, as it does on a full disk.
FULL = (
    STAGE
    + """
import json, os, resource
from storage.errors import StoreError

store = ArtifactStore(sys.argv[1])
small = store.get_or_build(REQUEST, build).ref
big = ArtifactRequest("formulas", "tasks.novelty", 1, {"a": 2})
noise = os.urandom(200_000).hex()
rows = [noise[i : i + 40] for i in range(0, 200_000, 40)]
resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))

def table(writer):
    names = pa.table({"formula": rows, "chemsys": rows, "source": rows})
    writer.write_table("formulas", names, "formulas")

def data(writer):
    writer.write_bytes("x", b"x" * 100_000)

result = []
for write in (table, data):
    try:
        store.get_or_build(big, write)
    except StoreError as error:
        result.append(str(error))
left = [str(path) for path in (store.backend.local_root / ".tmp").iterdir()]
print(json.dumps({"errors": result, "small": store.find(small.key) == small, "big": store.find(big.key) is None,
                  "left": left, "again": store.get_or_build(big, build, wait_s=0).cached}))
"""
)


def test_full_disk(start_python: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    out, err = start_python(FULL, str(tmp_path / "store")).communicate(timeout=60)
    assert out, err
    report = json.loads(out)
    assert len(report["errors"]) == 2
    for message in report["errors"]:
        assert message.startswith(f"no space left for {tmp_path / 'store'}; free some and run again")
        assert "\n" not in message
    assert report["small"] is True
    assert report["big"] is True
    assert report["left"] == []
    assert report["again"] is False  # the lease is free again, and the key builds


@pytest.mark.parametrize("step", ["fsync", "rename", "link"])
def test_full_disk_while_committing(
    store: ArtifactStore, build: Build, request_for: Make, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    kept = store.get_or_build(request_for(a=1), build).ref
    real = getattr(os, step)
    building = False

    def full(*args: object, **kwargs: object) -> object:
        if building:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*args, **kwargs)

    def write(writer: ArtifactWriter) -> None:
        nonlocal building
        build(writer)
        building = True

    monkeypatch.setattr(os, step, full)
    with pytest.raises(StoreError, match="no space left for"):
        store.get_or_build(request_for(a=2), write)
    building = False
    assert store.list() == [kept]
    assert store.find(kept.key) == kept
    # The lease was given back although its file could not be rewritten.
    assert store.get_or_build(request_for(a=2), build, wait_s=0).cached is False


def test_a_payload_of_a_run_that_died_is_replaced_when_it_differs(
    store: ArtifactStore, build: Build, request_for: Make
) -> None:
    ref = store.get_or_build(request_for(), build).ref
    attempt = Path(ref.uri, ref.digest[:16])
    Path(ref.uri, "manifest.json").unlink()
    (attempt / "formulas.parquet").write_bytes(b"half")
    assert store.get_or_build(request_for(), build).ref == ref
    assert store.verify(ref)
    Path(ref.uri, "manifest.json").unlink()
    inode = (attempt / "formulas.parquet").stat().st_ino
    assert store.get_or_build(request_for(), build).ref == ref
    assert (attempt / "formulas.parquet").stat().st_ino == inode  # whole already: kept


def test_a_manifest_committed_by_another_wins(store: ArtifactStore, build: Build, request_for: Make) -> None:
    """Should two builders run in spite of all, the first manifest stays and the second takes it."""

    def write(writer: ArtifactWriter) -> None:
        build(writer)
        folder = Path(store.root, "copy")
        folder.mkdir()
        second = ArtifactWriter(folder, writer.request)
        build(second)
        second.count("read", 4)
        manifest = make_manifest(writer.request, second.finish(), second.counts)
        (folder / "run.json").write_text("{}")
        assert store._commit(folder, manifest).cached is False

    built = store.get_or_build(request_for(), write)
    assert built.cached is True
    assert store.manifest(built.ref).counts["read"] == 4


def test_file_systems_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", unsupported)
    backend = LocalBackend(tmp_path)
    backend.create("a/b", b"1")
    with pytest.raises(FileExistsError):
        backend.create("a/b", b"2")
    assert backend.read("a/b") == b"1"
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]

    def broken(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "link", broken)
    with pytest.raises(OSError, match="Input/output"):
        link_new(tmp_path / "a" / "b", tmp_path / "c")


def test_which_errors_are_the_disks() -> None:
    assert "no space left" in (storage_failure(OSError(errno.EDQUOT, "x"), "/s") or "")
    assert "no permission" in (storage_failure(OSError(errno.EROFS, "x"), "/s") or "")
    assert "no permission" in (storage_failure(PermissionError("x"), "/s") or "")
    assert storage_failure(OSError(errno.EIO, "x"), "/s") is None
    assert storage_failure(ValueError("x"), "/s") is None


def test_other_errors_of_a_stage_keep_their_type(store: ArtifactStore, request_for: Make, formulas: pa.Table) -> None:
    def write(writer: ArtifactWriter) -> None:
        Path("/nonexistent/file").read_bytes()

    with pytest.raises(FileNotFoundError):
        store.get_or_build(request_for(), write)
