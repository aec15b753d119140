from __future__ import annotations

import json
import logging
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from storage import checks
from storage.artifact import ArtifactRequest
from storage.errors import AmbiguousKey, ArtifactCorrupt, ArtifactNotFound, SchemaError, SchemeMismatch, StoreError
from storage.scheme import EnergyScheme, table_scheme, with_scheme
from storage.store import ArtifactStore, default_root
from storage.writer import ArtifactWriter

Build = Callable[[ArtifactWriter], None]
Make = Callable[..., ArtifactRequest]


def never(writer: ArtifactWriter) -> None:
    raise AssertionError("built although it is in the store")


def payload(store: ArtifactStore, key: str, path: str) -> Path:
    ref = store.list()[[r.key for r in store.list()].index(key)]
    return Path(ref.uri, ref.digest[:16], path)


def tree(folder: Path) -> dict[str, bytes]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "run.json")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_builds_once_then_finds(store: ArtifactStore, build: Build, request_for: Make, formulas: pa.Table) -> None:
    first = store.get_or_build(request_for(a=1), build)
    again = store.get_or_build(request_for(a=1), never)
    assert (first.cached, again.cached) == (False, True)
    assert again.ref == first.ref == store.find(first.ref.key)
    assert first.ref.uri == f"{store.root}/{first.ref.key}"
    assert Path(first.ref.uri).is_absolute()
    table = store.read_table(first.ref)
    assert table.column("formula").to_pylist() == formulas.column("formula").to_pylist()
    assert table.schema.metadata[b"schema"] == b"formulas"
    manifest = store.manifest(first.ref)
    assert manifest.counts == {"read": 3, "rejected": 1}
    assert manifest.rows == 2
    rejected = store.read_table(first.ref, "rejected/rejected").to_pylist()
    assert rejected == [
        {
            "row": 2,
            "material_id": None,
            "formula": "Xx",
            "reason": "unknown element Xx",
            "record": '{"formula": "Xx", "n": 1}',
        }
    ]
    assert store.get_or_build(request_for(a=2), build).cached is False
    assert len(store.list()) == 2


def test_two_stores_hold_the_same_bytes(tmp_path: Path, build: Build, request_for: Make) -> None:
    stores = [ArtifactStore(tmp_path / name) for name in ("one", "two")]
    refs = [store.get_or_build(request_for(a=1), build).ref for store in stores]
    assert tree(Path(refs[0].uri)) == tree(Path(refs[1].uri))
    assert refs[0].digest == refs[1].digest
    runs = [store.run_record(ref) for store, ref in zip(stores, refs, strict=True)]
    assert runs[0]["started"] != runs[1]["started"]


def test_run_record(store: ArtifactStore, formulas: pa.Table, request_for: Make) -> None:
    def write(writer: ArtifactWriter) -> None:
        writer.write_table("formulas", formulas, "formulas")
        writer.note("epoch_seconds", [1.5, 1.25])

    ref = store.get_or_build(request_for(), write).ref
    record = store.run_record(ref)
    assert record["notes"] == {"epoch_seconds": [1.5, 1.25]}
    assert record["libraries"]["pyarrow"] == pa.__version__
    assert record["peak_rss_bytes"] > 10_000_000
    assert record["pid"] == os.getpid()
    assert record["finished"] >= record["started"]
    Path(ref.uri, ref.digest[:16], "run.json").write_text("{")
    assert store.run_record(ref) == {}
    assert store.verify(ref).key == ref.key  # nothing depends on it


def test_what_lies_in_the_store_afterwards(store: ArtifactStore, build: Build, request_for: Make) -> None:
    ref = store.get_or_build(request_for(), build).ref
    store_root = Path(store.root)
    files = {path.relative_to(store_root).as_posix() for path in store_root.rglob("*") if path.is_file()}
    attempt = f"{ref.key}/{ref.digest[:16]}"
    assert files == {
        f"{ref.key}/manifest.json",
        f"{attempt}/formulas.parquet",
        f"{attempt}/rejected/rejected.parquet",
        f"{attempt}/run.json",
        f".leases/{ref.key}/00000001.json",
    }


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), StoreError("full")])
def test_a_failing_build_leaves_nothing_and_passes_its_error(
    store: ArtifactStore, build: Build, request_for: Make, error: BaseException
) -> None:
    def fail(writer: ArtifactWriter) -> None:
        build(writer)
        raise error

    with pytest.raises(type(error)) as caught:
        store.get_or_build(request_for(), fail)
    assert caught.value is error
    assert store.list() == []
    assert store.find(request_for().key) is None
    assert list(Path(store.root, ".tmp").iterdir()) == []
    assert store.get_or_build(request_for(), build, wait_s=0).cached is False


DAMAGE: dict[str, Callable[[Path], Any]] = {
    "truncated": lambda path: os.truncate(path, path.stat().st_size // 2),
    "one byte longer": lambda path: path.write_bytes(path.read_bytes() + b"x"),
    "one bit": lambda path: path.write_bytes(
        path.read_bytes()[:-9] + bytes([path.read_bytes()[-9] ^ 1]) + path.read_bytes()[-8:]
    ),
    "deleted": lambda path: path.unlink(),
    "emptied": lambda path: path.write_bytes(b""),
}


@pytest.mark.parametrize("damage", sorted(DAMAGE))
@pytest.mark.parametrize("name", ["formulas.parquet", "rejected/rejected.parquet", "manifest.json"])
def test_damage_is_noticed_and_rebuilt(
    store: ArtifactStore, build: Build, request_for: Make, caplog: pytest.LogCaptureFixture, damage: str, name: str
) -> None:
    ref = store.get_or_build(request_for(), build).ref
    before = tree(Path(ref.uri))
    assert store.find(ref.key) is not None  # the verification is remembered from here on
    manifest_is_gone = (damage, name) == ("deleted", "manifest.json")
    path = Path(ref.uri, name) if name == "manifest.json" else payload(store, ref.key, name)
    DAMAGE[damage](path)

    with pytest.raises(ArtifactNotFound if manifest_is_gone else ArtifactCorrupt) as caught:
        store.resolve(ref.key)
    assert "\n" not in str(caught.value)
    with pytest.raises(StoreError):
        store.verify(ref)
    table = "rejected/rejected" if name.startswith("rejected") else None
    with pytest.raises(StoreError):
        store.read_table(ref, table)
    with caplog.at_level(logging.WARNING):
        assert store.find(ref.key) is None
        built = store.get_or_build(request_for(), build)
    assert built.cached is False
    assert built.ref == ref
    assert tree(Path(ref.uri)) == before
    assert store.get_or_build(request_for(), never).cached is True
    if not manifest_is_gone:
        assert any("is damaged; it was moved to" in record.message for record in caplog.records)
        assert len(list(Path(store.root, ".damaged").iterdir())) == 1


def test_a_change_that_keeps_size_and_modification_time_is_noticed(
    store: ArtifactStore, build: Build, request_for: Make
) -> None:
    ref = store.get_or_build(request_for(), build).ref
    path = payload(store, ref.key, "formulas.parquet")
    assert store.find(ref.key)
    before = path.stat()
    data = bytearray(path.read_bytes())
    data[40] ^= 1
    path.write_bytes(bytes(data))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert store.find(ref.key) is None


def test_repeated_lookups_do_not_read_the_payload_again(
    store: ArtifactStore, build: Build, request_for: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = store.get_or_build(request_for(), build).ref
    read: list[str] = []
    real = checks._sha256
    monkeypatch.setattr(checks, "_sha256", lambda backend, path: read.append(path) or real(backend, path))
    for _ in range(3):
        assert store.find(ref.key) == ref
    assert len(read) == 2  # two payload files, once each
    store.verify(ref)
    assert len(read) == 4  # verify trusts nothing
    monkeypatch.setattr(checks, "_VERIFIED_LIMIT", 0)
    store.verify(ref)
    assert len(checks._verified) == 1


def test_a_copied_artifact_under_a_foreign_key_is_no_hit(
    store: ArtifactStore, build: Build, request_for: Make, caplog: pytest.LogCaptureFixture
) -> None:
    ref = store.get_or_build(request_for(a=1), build).ref
    other = request_for(a=2)
    shutil.copytree(ref.uri, Path(store.root, other.key))
    assert store.find(other.key) is None
    assert "holds the artifact" in caplog.text
    assert store.get_or_build(other, build).cached is False
    assert store.find(ref.key) == ref


def test_other_content_behind_a_reference_is_noticed(store: ArtifactStore, build: Build, request_for: Make) -> None:
    ref = store.get_or_build(request_for(), build).ref
    stale = ref.model_copy(update={"digest": "0" * 64})
    with pytest.raises(ArtifactCorrupt, match="has changed since it was referenced"):
        store.read_table(stale)


def test_resolve(
    store: ArtifactStore, build: Build, request_for: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = store.get_or_build(request_for(a=1), build).ref
    digits = ref.key.rsplit("-", 1)[1]
    for text in (ref.key, ref.key[:12], "formulas", digits[:6], ref.uri, ref.uri + "/", Path(ref.uri),
                 f"{ref.uri}/manifest.json", f"{ref.uri}/{ref.digest[:16]}"):  # fmt: skip
        assert store.resolve(text) == ref
    elsewhere = ArtifactStore(tmp_path / "elsewhere")
    assert elsewhere.resolve(ref.uri) == ref
    assert elsewhere.read_table(ref).num_rows == 2
    assert elsewhere.manifest(ref).key == ref.key
    assert ArtifactStore.from_ref(ref).root == store.root

    copy = tmp_path / "my-copy"
    shutil.copytree(ref.uri, copy)
    taken = elsewhere.resolve(str(copy))
    assert (taken.digest, taken.uri) == (ref.digest, str(copy))
    assert elsewhere.read_table(taken).num_rows == 2
    monkeypatch.chdir(tmp_path)
    assert elsewhere.resolve("my-copy") == taken
    assert elsewhere.resolve("./my-copy") == taken


def test_resolve_without_an_answer(store: ArtifactStore, build: Build, request_for: Make, tmp_path: Path) -> None:
    refs = [store.get_or_build(request_for(a=a), build).ref for a in range(3)]
    with pytest.raises(AmbiguousKey, match=r"any of 3 artifacts.*give more of the key"):
        store.resolve("formulas")
    assert store.resolve(refs[1].key) == refs[1]
    for text in ("phases", "formulas-" + "z" * 24, "", str(tmp_path), str(tmp_path / "absent"), "./absent"):
        with pytest.raises(ArtifactNotFound) as caught:
            store.resolve(text)
        assert not isinstance(caught.value, AmbiguousKey)
        assert "\n" not in str(caught.value)


def test_list_by_kind_and_damage(
    store: ArtifactStore, build: Build, request_for: Make, caplog: pytest.LogCaptureFixture
) -> None:
    assert store.list() == []
    one = store.get_or_build(request_for(), build).ref
    two = store.get_or_build(request_for(kind="formulas_known"), build).ref
    assert store.list("formulas") == [one]
    assert store.list() == sorted([one, two], key=lambda ref: ref.key)
    Path(two.uri, "manifest.json").write_text("{}")
    assert store.list() == [one]
    assert "is damaged" in caplog.text
    assert store.keys() == sorted([one.key, two.key])


def test_reading(store: ArtifactStore, build: Build, request_for: Make) -> None:
    ref = store.get_or_build(request_for(), build).ref
    assert store.read_table(ref, "formulas.parquet", ["formula"]).column_names == ["formula"]
    with pytest.raises(StoreError, match=r"formulas\.parquet of artifact .* has no column 'x'"):
        store.read_table(ref, columns=["x"])
    with pytest.raises(ArtifactNotFound, match="has no table 'y'"):
        store.read_table(ref, "y")
    path = store.local_path(ref, "formulas.parquet")
    assert store.read_bytes(ref, "formulas.parquet") == path.read_bytes()
    with store.open(ref, "formulas.parquet") as file:
        assert file.read(4) == b"PAR1"
    assert store.local_path(ref) == path.parent
    with pytest.raises(ArtifactNotFound, match="there is no artifact in"):
        store.read_table(ref.model_copy(update={"uri": f"{store.root}/gone"}))


def test_the_only_table_is_the_main_one(store: ArtifactStore, formulas: pa.Table, request_for: Make) -> None:
    def one(writer: ArtifactWriter) -> None:
        writer.write_table("known", formulas, "formulas")

    def two(writer: ArtifactWriter) -> None:
        one(writer)
        writer.write_table("more", formulas, "formulas")

    assert store.read_table(store.get_or_build(request_for(a=1), one).ref).num_rows == 2
    with pytest.raises(ArtifactNotFound, match=r"no table 'formulas'; its tables: known\.parquet, more\.parquet"):
        store.read_table(store.get_or_build(request_for(a=2), two).ref)


def test_parts_are_read_as_one_table(store: ArtifactStore, formulas: pa.Table, request_for: Make) -> None:
    def write(writer: ArtifactWriter) -> None:
        writer.write_table("formulas/part-001", formulas.slice(1), "formulas")
        writer.write_table("formulas/part-000", formulas.slice(0, 1), "formulas")

    ref = store.get_or_build(request_for(), write).ref
    assert store.read_table(ref).column("formula").to_pylist() == ["NaCl", "Li2O"]
    assert store.manifest(ref).rows == 2


def test_a_table_in_pieces_is_the_table_as_a_whole(store: ArtifactStore) -> None:
    scheme = EnergyScheme(source="oqmd", release="1", functional="pbe")
    names = ("material_id", "formula", "chemsys", "source", "source_id", "source_version")
    rows = pa.table({name: ["x", "y", "z"] for name in names})

    def write(writer: ArtifactWriter) -> None:
        writer.write_table("whole", rows, "compounds")
        with writer.stream_table("pieces", "compounds") as append:
            for row in range(rows.num_rows):
                append(rows.slice(row, 1))
        with writer.stream_table("none", "compounds"):
            pass
        with (
            pytest.raises(SchemeMismatch, match="set the table's scheme"),
            writer.stream_table("other", "compounds") as append,
        ):
            append(with_scheme(rows, scheme.model_copy(update={"release": "2"})))

    ref = store.get_or_build(ArtifactRequest("compounds", "tasks.ingest", 1, {}, {}, scheme), write).ref
    assert store.read_bytes(ref, "pieces.parquet") == store.read_bytes(ref, "whole.parquet")
    assert store.read_table(ref, "pieces").schema.metadata == store.read_table(ref, "none").schema.metadata
    assert [entry.rows for entry in store.manifest(ref).tables("none")] == [0]


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda w: None, "tasks.novelty wrote nothing"),
        (lambda w: w.write_bytes("manifest.json", b"x"), "is written by the store"),
        (lambda w: (w.folder / "run.json").write_bytes(b"x"), "are written by the store"),
        (lambda w: w.write_bytes("../x", b"x"), "no path inside an artifact"),
        (lambda w: w.write_bytes("/x", b"x"), "no path inside an artifact"),
        (lambda w: w.write_bytes("", b"x"), "no path inside an artifact"),
        (lambda w: (w.write_bytes("x", b"1"), w.write_bytes("x", b"2")), "was written before"),
        (lambda w: (w.folder / "link").symlink_to("/etc/hosts"), "is a link"),
        (lambda w: w.write_json("x.json", {"a": float("nan")}), "nan"),
        (lambda w: w.write_table("x", pa.table({"a": [1]}), "formulas"), "lacks the column"),
    ],
)
def test_a_writer_refuses(store: ArtifactStore, request_for: Make, write: Build, message: str) -> None:
    with pytest.raises(StoreError, match=message):
        store.get_or_build(request_for(), write)
    assert store.list() == []


def test_own_files_json_and_rejected_tables(store: ArtifactStore, request_for: Make) -> None:
    def write(writer: ArtifactWriter) -> None:
        (writer.folder / "plots").mkdir()
        (writer.folder / "plots" / "a.html").write_text("<p>")
        writer.write_json("x.json", {"b": 1, "a": [0.1]})
        writer.reject(pa.table({"row": [5], "reason": ["bad"]}))
        writer.reject([])

    ref = store.get_or_build(request_for(), write).ref
    assert [entry.path for entry in store.manifest(ref).payload] == [
        "plots/a.html",
        "rejected/rejected.parquet",
        "x.json",
    ]
    assert json.loads(store.read_bytes(ref, "x.json")) == {"a": [0.1], "b": 1}
    assert store.manifest(ref).counts == {"rejected": 1}

    def nothing_rejected(writer: ArtifactWriter) -> None:
        writer.write_bytes("x", b"1")
        writer.reject([])

    ref = store.get_or_build(request_for(a=1), nothing_rejected).ref
    assert store.manifest(ref).counts == {"rejected": 0}
    assert [entry.path for entry in store.manifest(ref).payload] == ["x"]


def test_energy_scheme_reaches_the_tables(store: ArtifactStore, formulas: pa.Table) -> None:
    scheme = EnergyScheme(source="oqmd", release="1", functional="pbe")
    rows = pa.table(
        {name: ["x"] for name in ("material_id", "formula", "chemsys", "source", "source_id", "source_version")}
    )

    def write(writer: ArtifactWriter) -> None:
        writer.write_table("compounds", rows, "compounds")
        writer.write_table("formulas", formulas, "formulas")

    request = ArtifactRequest("compounds", "tasks.ingest", 1, {}, {}, scheme)
    ref = store.get_or_build(request, write).ref
    assert table_scheme(store.read_table(ref)) == scheme
    assert table_scheme(store.read_table(ref, "formulas")) is None
    assert store.manifest(ref).energy_scheme == scheme

    other = ArtifactRequest("compounds", "tasks.ingest", 1, {}, {}, scheme.model_copy(update={"release": "2"}))
    with pytest.raises(SchemeMismatch, match="states the scheme oqmd 1 pbe, its artifact oqmd 2 pbe"):
        store.get_or_build(other, lambda w: w.write_table("compounds", store.read_table(ref), "compounds") and None)


def test_scratch_lives_until_the_commit(store: ArtifactStore, build: Build, request_for: Make) -> None:
    request = request_for()
    seen: list[bool] = []

    def write(writer: ArtifactWriter) -> None:
        checkpoint = store.scratch(request.key) / "epoch-1"
        seen.append(checkpoint.exists())
        checkpoint.write_text("1")
        if len(seen) == 1:
            raise ValueError("stopped")
        build(writer)

    with pytest.raises(ValueError, match="stopped"):
        store.get_or_build(request, write)
    store.get_or_build(request, write)
    assert seen == [False, True]
    assert not (store.scratch_root / request.key).exists()
    with pytest.raises(StoreError, match="no artifact key"):
        store.scratch("../x")


def test_roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ELEMSCREEN_STORE", raising=False)
    assert default_root() == "./elemscreen-store"
    monkeypatch.setenv("ELEMSCREEN_STORE", str(tmp_path / "s"))
    assert ArtifactStore().root == str(tmp_path / "s")
    assert not (tmp_path / "s").exists()  # looking makes nothing
    assert ArtifactStore(f"file://{tmp_path}/s").root == str(tmp_path / "s")
    monkeypatch.chdir(tmp_path)
    assert ArtifactStore("s").root == str(tmp_path / "s")
    assert repr(ArtifactStore("s")) == f"ArtifactStore('{tmp_path}/s')"
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="is a file, not a folder"):
        ArtifactStore(tmp_path / "file")
    with pytest.raises(StoreError, match=r"conditional puts.*use a local folder"):
        ArtifactStore("ftp://host/x")


def test_a_root_below_a_file(tmp_path: Path, build: Build, request_for: Make) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="runs through a file"):
        ArtifactStore(tmp_path / "file" / "store").get_or_build(request_for(), build)


def test_a_folder_without_permission(
    store: ArtifactStore, build: Build, request_for: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "link", refuse)  # the tests may run as root, whom no permission stops
    with pytest.raises(StoreError, match=r"no permission for .*ELEMSCREEN_STORE"):
        store.get_or_build(request_for(), build)


def test_many_threads_build_once(store: ArtifactStore, build: Build, request_for: Make) -> None:
    built: list[int] = []
    results: list[Any] = []

    def slow(writer: ArtifactWriter) -> None:
        built.append(1)
        threading.Event().wait(0.2)
        build(writer)

    threads = [
        threading.Thread(target=lambda: results.append(store.get_or_build(request_for(), slow))) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(built) == 1
    assert sorted(result.cached for result in results) == [False] + [True] * 5
    assert len({result.ref for result in results}) == 1


def test_schema_errors_leave_nothing(store: ArtifactStore, request_for: Make) -> None:
    with pytest.raises(SchemaError):
        store.get_or_build(request_for(), lambda w: w.reject([{"row": 1}]))
    assert store.list() == []
