from __future__ import annotations

import datetime as dt
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from storage.artifact import ArtifactRef, ArtifactRequest
from storage.catalog import catalog, lineage, show, verify, why
from storage.errors import ArtifactNotFound
from storage.garbage import gc
from storage.lease import Holder, acquire
from storage.scheme import EnergyScheme
from storage.store import ArtifactStore
from storage.writer import ArtifactWriter

Build = Callable[[ArtifactWriter], None]
Make = Callable[..., ArtifactRequest]
DAY = dt.timedelta(days=1)


@pytest.fixture
def chain(store: ArtifactStore, build: Build, request_for: Make) -> dict[str, ArtifactRef]:
    """Two of each: known (a=1, a=2) -> candidates made from them."""
    refs = {}
    for a in (1, 2):

        def other(writer: ArtifactWriter, a: int = a) -> None:
            build(writer)
            writer.count("read", a)

        known = store.get_or_build(request_for(kind="known", a=a, nested={"x": 1, "y": [1, 2]}), other).ref
        refs[f"known{a}"] = known
        refs[f"screen{a}"] = store.get_or_build(request_for(kind="screened", inputs={"known": known}), other).ref
    return refs


def age(ref: ArtifactRef, days: float) -> None:
    old = time.time() - days * 86_400
    os.utime(Path(ref.uri, "manifest.json"), (old, old))


def test_catalog(store: ArtifactStore, chain: dict[str, ArtifactRef]) -> None:
    age(chain["known1"], 3)
    age(chain["screen1"], 2)
    age(chain["known2"], 1)
    rows = catalog(store)
    assert [row.key for row in rows] == [chain[name].key for name in ("screen2", "known2", "screen1", "known1")]
    newest = rows[0]
    assert (newest.kind, newest.stage, newest.rows, newest.problem) == ("screened", "tasks.novelty", 2, None)
    assert newest.inputs == (chain["known2"].key,)
    assert newest.bytes == sum(entry.bytes for entry in store.manifest(chain["screen2"]).payload)
    assert newest.created is not None
    assert abs((newest.created - dt.datetime.now(dt.UTC)).total_seconds()) < 60
    assert [row.key for row in catalog(store, "known")] == [chain["known2"].key, chain["known1"].key]
    Path(chain["known1"].uri, "manifest.json").write_text("{}")
    damaged = next(row for row in catalog(store) if row.key == chain["known1"].key)
    assert damaged.problem is not None
    assert "is damaged" in damaged.problem


def test_show(store: ArtifactStore, chain: dict[str, ArtifactRef]) -> None:
    shown = show(store, chain["known1"].key)
    assert shown["reference"]["digest"] == chain["known1"].digest
    assert shown["manifest"]["parameters"]["a"] == 1
    assert shown["run"]["python"]
    assert all(Path(path).is_file() for path in shown["files"])
    with pytest.raises(ArtifactNotFound):
        show(store, "absent")


def test_verify(store: ArtifactStore, chain: dict[str, ArtifactRef]) -> None:
    assert [one.problem for one in verify(store)] == [None] * 4
    victim = chain["known2"]
    path = Path(victim.uri, victim.digest[:16], "known.parquet")
    path.write_bytes(path.read_bytes()[:-1])
    results = {one.key: one.problem for one in verify(store)}
    assert "truncated or altered" in (results.pop(victim.key) or "")
    assert set(results.values()) == {None}
    assert verify(store, [chain["known1"].key[:12]])[0].problem is None
    assert verify(store, [victim.uri])[0].problem is not None
    with pytest.raises(ArtifactNotFound):
        verify(store, ["absent"])


def test_lineage(store: ArtifactStore, chain: dict[str, ArtifactRef]) -> None:
    line = lineage(store, chain["screen1"])
    assert [(one.depth, one.role, one.key, one.present) for one in line] == [
        (0, "", chain["screen1"].key, True),
        (1, "known", chain["known1"].key, True),
    ]
    Path(chain["known1"].uri, "manifest.json").unlink()
    assert lineage(store, chain["screen1"])[1].present is False


def test_why_a_request_misses(store: ArtifactStore, chain: dict[str, ArtifactRef], request_for: Make) -> None:
    lines = why(store, request_for(kind="known", a=3, nested={"x": 1, "y": [1, 3]}, more="x" * 100))
    assert lines[0].endswith("is not in the store")
    assert "differs from known-" in lines[1]
    assert lines[2].startswith("  parameters.a: 3, there ")
    assert lines[3].startswith('  parameters.more: "xxx')
    assert lines[3].endswith("..., there absent")
    assert lines[4] == "  parameters.nested.y: [1, 3], there [1, 2]"
    assert len(lines) == 5
    hit = why(store, request_for(kind="known", a=1, nested={"x": 1, "y": [1, 2]}))
    assert hit == [f"{chain['known1'].key} is in the store, whole: a request for it is a hit"]
    assert "there is no other artifact of kind model" in why(store, request_for(kind="model"))[1]


def test_why_compares_with_the_nearest(store: ArtifactStore, chain: dict[str, ArtifactRef], request_for: Make) -> None:
    lines = why(store, request_for(kind="known", a=2, nested={"x": 1, "y": [1, 9]}))
    assert chain["known2"].key in lines[1]
    assert lines[2:] == ["  parameters.nested.y: [1, 9], there [1, 2]"]
    against = why(store, request_for(kind="known", a=2, nested={"x": 1, "y": [1, 9]}), chain["known1"].key)
    assert against[2] == "  parameters.a: 2, there 1"


def test_why_follows_inputs_back(store: ArtifactStore, chain: dict[str, ArtifactRef], request_for: Make) -> None:
    lines = why(store, chain["screen1"].key, chain["screen2"].key)
    assert lines == [
        f"{chain['screen1'].key} differs from {chain['screen2'].key} in:",
        f"  input known: {chain['known1'].key}, there {chain['known2'].key}",
        "    parameters.a: 1, there 2",
    ]
    assert why(store, chain["screen1"].key)[1:] == lines[1:]  # the nearest is the only other one
    same = why(store, chain["screen1"].key, chain["screen1"].key)
    assert same == [f"{chain['screen1'].key} and {chain['screen1'].key} were asked for in the same way"]
    odd = chain["known1"].model_copy(update={"digest": "0" * 64})
    lines = why(store, request_for(kind="screened", inputs={"known": odd}), chain["screen1"].key)
    assert lines[-1] == "    the same request gave other content: its stage is not deterministic"
    lines = why(store, request_for(kind="screened", inputs={}), chain["screen1"].key)
    assert lines[-1] == f"  input known: absent, there {chain['known1'].key}"


def test_why_names_stage_version_and_scheme(store: ArtifactStore, chain: dict[str, ArtifactRef]) -> None:
    scheme = EnergyScheme(source="oqmd", release="1", functional="pbe")
    request = ArtifactRequest("known", "tasks.other", 2, {"a": True, "nested": {"x": 1, "y": [1, 2]}}, {}, scheme)
    text = "\n".join(why(store, request, chain["known1"].key))
    assert '  stage: "tasks.other", there "tasks.novelty"' in text
    assert "  stage version: 2, there 1" in text
    assert '  energy scheme.release: "1", there absent' in text
    assert "  parameters.a: true, there 1" in text  # True == 1 in Python, not in JSON


def test_why_tells_the_state(store: ArtifactStore, build: Build, request_for: Make) -> None:
    request = request_for()
    ref = store.get_or_build(request, build).ref
    (Path(ref.uri) / ref.digest[:16] / "formulas.parquet").write_bytes(b"")
    assert "is in the store but damaged" in why(store, request)[0]
    other = request_for(a=2)
    with acquire(store.backend, other.key, None, 60) or pytest.fail("not taken"):
        assert f"is being built by process {os.getpid()}" in why(store, other)[0]
    dead = Holder("h", "m", 1, None, "o", 0.001, 0.0)
    third = request_for(a=3)
    store.backend.replace(f".leases/{third.key}/00000001.json", dead.to_bytes())
    os.utime(Path(store.root, f".leases/{third.key}/00000001.json"), (0, 0))
    assert why(store, third)[0].endswith("(a run of it was ended before it finished)")


def test_gc_leaves_whole_artifacts_alone(store: ArtifactStore, chain: dict[str, ArtifactRef]) -> None:
    assert gc(store) == []
    assert len(store.list()) == 4


def test_gc_removes_leftovers_only(store: ArtifactStore, chain: dict[str, ArtifactRef], request_for: Make) -> None:
    root = Path(store.root)
    key = chain["known1"].key
    orphan = request_for(a=9).key
    for path in (
        f".tmp/{key}.dead/x",
        f"{key}/0123456789abcdef/x",
        f"{orphan}/0123456789abcdef/x",
        f".damaged/{key}.1/x",
    ):
        (root / path).parent.mkdir(parents=True)
        (root / path).write_bytes(b"12345")
    (store.scratch(key) / "checkpoint").write_bytes(b"12345")
    (store.scratch(orphan) / "checkpoint").write_bytes(b"12345")
    (root / ".scratch" / "notes").mkdir()
    planned = gc(store, dry_run=True)
    assert {item.reason for item in planned} == {
        "unfinished build of a run that is gone",
        "payload that no manifest names",
        "artifact that was found damaged",
        "checkpoints of a finished artifact",
    }
    assert len(planned) == 5
    assert {item.bytes for item in planned} == {5}
    assert (root / f".tmp/{key}.dead/x").exists()
    assert gc(store) == planned
    assert gc(store) == []
    assert not (root / orphan).exists()
    assert (store.scratch_root / orphan / "checkpoint").exists()  # a run to be resumed
    assert [one.problem for one in verify(store)] == [None] * 4
    assert [item.reason for item in gc(store, older_than=dt.timedelta(0), keep=["known", "screened"])] == [
        "old checkpoints"
    ]


def test_gc_does_not_touch_a_living_run(store: ArtifactStore, build: Build, request_for: Make) -> None:
    request = request_for()
    found: list[Any] = []

    def write(writer: ArtifactWriter) -> None:
        build(writer)
        (store.scratch(request.key) / "checkpoint").write_text("1")
        stray = Path(store.root, request.key, "0123456789abcdef")
        stray.mkdir(parents=True)
        (stray / "x").write_text("1")
        found.extend(gc(store, older_than=dt.timedelta(0)))
        assert (writer.folder / "formulas.parquet").exists()
        assert stray.exists()

    store.get_or_build(request, write)
    assert found == []
    assert [item.reason for item in gc(store)] == ["payload that no manifest names"]


def test_gc_of_old_artifacts_keeps_what_is_needed(store: ArtifactStore, chain: dict[str, ArtifactRef]) -> None:
    for ref in chain.values():
        age(ref, 10)
    age(chain["screen2"], 0)
    assert gc(store, older_than=20 * DAY) == []
    removed = gc(store, older_than=5 * DAY, keep=[chain["screen1"].key], dry_run=True)
    assert removed == []  # known1 is needed by screen1, known2 by the young screen2
    removed = gc(store, older_than=5 * DAY)
    assert {item.path for item in removed} == {chain["known1"].uri, chain["screen1"].uri}
    assert {ref.key for ref in store.list()} == {chain["known2"].key, chain["screen2"].key}
    assert "older than 5 days" in removed[0].reason
    assert [one.problem for one in verify(store)] == [None, None]


def test_gc_keeps_the_evidence_of_a_damaged_manifest(
    store: ArtifactStore, chain: dict[str, ArtifactRef], caplog: pytest.LogCaptureFixture
) -> None:
    Path(chain["known1"].uri, "manifest.json").write_text("{}")
    assert gc(store, older_than=365 * DAY) == []
    assert "is damaged" in caplog.text
    assert Path(chain["known1"].uri, chain["known1"].digest[:16], "known.parquet").exists()


def test_gc_of_old_leases(store: ArtifactStore, chain: dict[str, ArtifactRef]) -> None:
    lease = Path(store.root, ".leases", chain["known1"].key, "00000001.json")
    old = time.time() - 2 * 86_400
    os.utime(lease, (old, old))
    assert [item.reason for item in gc(store)] == ["lease that nobody holds"]
    assert not lease.exists()


def test_imports_of_the_room() -> None:
    """Nothing but pyarrow, fsspec, pydantic, safetensors, numpy and the standard library."""
    import ast
    import sys

    allowed = {"pyarrow", "fsspec", "pydantic", "safetensors", "numpy", "storage"} | set(sys.stdlib_module_names)
    for file in Path(__file__).resolve().parents[2].joinpath("storage").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            for name in names:
                root = name.split(".")[0]
                assert root in allowed, f"{file.name} imports {name}"
                assert root not in {"pickle", "shelve", "marshal"}, f"{file.name} imports {name}"


def test_rows_of_a_kind_without_a_table(store: ArtifactStore, request_for: Make) -> None:
    store.get_or_build(request_for(kind="report"), lambda writer: writer.write_bytes("report.html", b"<p>") and None)
    assert catalog(store)[0].rows is None
