"""The same promises on object stores: fsspec's memory, and an S3 server on loopback."""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from storage import object_backend
from storage.artifact import ArtifactRequest
from storage.catalog import catalog, verify
from storage.errors import ArtifactCorrupt, ArtifactNotFound, StoreError
from storage.garbage import gc
from storage.lease import acquire, look
from storage.lookup import split_uri
from storage.store import ArtifactStore
from storage.tables import read_any, write_any
from storage.writer import ArtifactWriter

Build = Callable[[ArtifactWriter], None]
Make = Callable[..., ArtifactRequest]


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    pytest.importorskip("s3fs", reason="s3fs is not installed")
    server_module = pytest.importorskip("moto.server", reason="moto[server] is not installed")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(params=["memory", "s3"])
def remote(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ArtifactStore:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    name = f"b{uuid.uuid4().hex[:12]}"
    if request.param == "memory":
        return ArtifactStore(f"memory://{name}/campaign")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    endpoint = request.getfixturevalue("s3_endpoint")
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    fsspec.filesystem("s3").mkdir(name)
    return ArtifactStore(f"s3://{name}/campaign")


def objects(store: ArtifactStore) -> list[str]:
    return list(store.backend.files(""))


def test_build_find_read(remote: ArtifactStore, build: Build, request_for: Make, store: ArtifactStore) -> None:
    assert remote.list() == []
    assert remote.find(request_for().key) is None
    built = remote.get_or_build(request_for(), build)
    assert built.cached is False
    ref = built.ref
    assert ref.uri == f"{remote.root}/{ref.key}"
    again = remote.get_or_build(request_for(), lambda writer: pytest.fail("built twice"))
    assert (again.cached, again.ref) == (True, ref)
    assert remote.read_table(ref).column("formula").to_pylist() == ["NaCl", "Li2O"]
    assert remote.read_table(ref, columns=["source"]).column_names == ["source"]
    assert remote.list() == [ref]
    assert remote.run_record(ref)["pid"] > 0
    assert remote.verify(ref).counts == {"read": 3, "rejected": 1}
    attempt = f"{ref.key}/{ref.digest[:16]}"
    assert objects(remote) == [
        f".leases/{ref.key}/00000001.json",
        f"{attempt}/formulas.parquet",
        f"{attempt}/rejected/rejected.parquet",
        f"{attempt}/run.json",
        f"{ref.key}/manifest.json",
    ]
    local = store.get_or_build(request_for(), build).ref
    assert local.digest == ref.digest
    assert remote.backend.read(f"{ref.key}/manifest.json") == Path(local.uri, "manifest.json").read_bytes()


def test_resolve_and_from_ref(remote: ArtifactStore, build: Build, request_for: Make, store: ArtifactStore) -> None:
    ref = remote.get_or_build(request_for(), build).ref
    for text in (
        ref.key,
        "formulas",
        ref.uri,
        f"{ref.uri}/",
        f"{ref.uri}/manifest.json",
        f"{ref.uri}/{ref.digest[:16]}",
    ):
        assert remote.resolve(text) == ref
    assert store.resolve(ref.uri) == ref  # from a store elsewhere
    assert store.read_table(ref).num_rows == 2
    assert ArtifactStore.from_ref(ref).read_table(ref).num_rows == 2
    with pytest.raises(ArtifactNotFound):
        remote.resolve(f"{remote.root}/formulas-{'0' * 24}")
    with pytest.raises(StoreError, match="not on a local disk"):
        remote.local_path(ref, "formulas.parquet")
    with remote.open(ref, "formulas.parquet") as file:
        assert file.read(4) == b"PAR1"


@pytest.mark.parametrize("name", ["formulas.parquet", "manifest.json"])
@pytest.mark.parametrize("damage", ["altered", "truncated", "deleted"])
def test_damage_is_noticed_and_rebuilt(
    remote: ArtifactStore, build: Build, request_for: Make, name: str, damage: str
) -> None:
    ref = remote.get_or_build(request_for(), build).ref
    assert remote.find(ref.key) == ref
    path = f"{ref.key}/{name}" if name == "manifest.json" else f"{ref.key}/{ref.digest[:16]}/{name}"
    data = remote.backend.read(path)
    if damage == "deleted":
        remote.backend.delete(path)
    else:
        remote.backend.replace(path, data[:-1] + b"?" if damage == "altered" else data[: len(data) // 2])
    assert remote.find(ref.key) is None
    with pytest.raises(ArtifactNotFound if (name, damage) == ("manifest.json", "deleted") else ArtifactCorrupt):
        remote.resolve(ref.key)
    with pytest.raises(StoreError):
        remote.read_table(ref)
    assert remote.get_or_build(request_for(), build).cached is False
    assert remote.find(ref.key) == ref
    assert remote.backend.read(path) == data
    reasons = {item.reason for item in gc(remote)}
    assert reasons == ({"artifact that was found damaged"} if (name, damage) != ("manifest.json", "deleted") else set())
    assert not any(path.startswith(".damaged") for path in objects(remote))


def test_failing_build_leaves_nothing(remote: ArtifactStore, build: Build, request_for: Make) -> None:
    def fail(writer: ArtifactWriter) -> None:
        build(writer)
        assert writer.folder.is_dir()
        folders.append(writer.folder)
        raise ValueError("stopped")

    folders: list[Path] = []
    with pytest.raises(ValueError, match="stopped"):
        remote.get_or_build(request_for(), fail)
    assert not folders[0].exists()
    assert [path for path in objects(remote) if not path.startswith(".leases")] == []
    assert remote.get_or_build(request_for(), build, wait_s=0).cached is False


def test_upload_without_a_manifest_is_invisible_and_swept(
    remote: ArtifactStore, build: Build, request_for: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = remote.backend.create

    def die(path: str, data: bytes, **options: Any) -> None:
        if path.endswith("manifest.json"):
            raise KeyboardInterrupt
        real(path, data, **options)

    monkeypatch.setattr(remote.backend, "create", die)
    with pytest.raises(KeyboardInterrupt):
        remote.get_or_build(request_for(), build)
    monkeypatch.undo()
    assert remote.list() == []
    assert any(path.endswith("formulas.parquet") for path in objects(remote))
    assert [item.reason for item in gc(remote, dry_run=True)] == ["payload that no manifest names"]
    assert any(path.endswith("formulas.parquet") for path in objects(remote))
    gc(remote)
    assert [path for path in objects(remote) if not path.startswith(".leases")] == []


def test_create_is_exclusive(remote: ArtifactStore) -> None:
    backend = remote.backend
    barrier = threading.Barrier(6)
    outcomes: list[str] = []

    def race(number: int) -> None:
        barrier.wait()
        try:
            backend.create("race", str(number).encode())
            outcomes.append(str(number))
        except FileExistsError:
            outcomes.append("lost")

    threads = [threading.Thread(target=race, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count("lost") == 5
    assert backend.read("race").decode() in outcomes
    backend.create("race", backend.read("race"))  # a put repeated by the driver finds itself


def test_threads_build_once(remote: ArtifactStore, build: Build, request_for: Make) -> None:
    built: list[int] = []
    results: list[Any] = []

    def slow(writer: ArtifactWriter) -> None:
        built.append(1)
        threading.Event().wait(0.3)
        build(writer)

    def ask() -> None:
        results.append(ArtifactStore(remote.root).get_or_build(request_for(), slow))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(built) == 1
    assert sorted(result.cached for result in results) == [False, True, True]


def test_heartbeat_and_takeover(remote: ArtifactStore, build: Build, request_for: Make) -> None:
    key = request_for().key
    lease = acquire(remote.backend, key, None, 0.3)
    assert lease is not None
    before = look(remote.backend, key)
    threading.Event().wait(0.4)
    after = look(remote.backend, key)
    assert before is not None
    assert after is not None
    assert before.pulse != after.pulse
    lease._done.set()  # as if the process had died without a word, on another machine
    lease._thread.join()
    lease_file = f".leases/{key}/00000001.json"
    foreign = remote.backend.read(lease_file).replace(b'"machine": "', b'"machine": "other ')
    remote.backend.replace(lease_file, foreign)
    assert remote.get_or_build(request_for(), build).cached is False
    assert remote.backend.names(f".leases/{key}") == ["00000002.json"]


def test_scratch_is_local_and_goes_with_the_commit(
    remote: ArtifactStore, build: Build, request_for: Make, tmp_path: Path
) -> None:
    folder = remote.scratch(request_for().key)
    (folder / "checkpoint").write_text("1")
    assert folder.is_relative_to(tmp_path / "cache" / "elemscreen" / "scratch")
    remote.get_or_build(request_for(), build)
    assert not folder.exists()


def test_catalog_and_verify(remote: ArtifactStore, build: Build, request_for: Make) -> None:
    ref = remote.get_or_build(request_for(), build).ref
    row = catalog(remote)[0]
    assert (row.key, row.rows, row.problem) == (ref.key, 2, None)
    assert row.created is not None
    assert [(one.key, one.problem) for one in verify(remote)] == [(ref.key, None)]


def test_tables_by_address(remote: ArtifactStore, formulas: Any) -> None:
    for ending in ("parquet", "csv.gz"):
        address = f"{remote.root}/out/table.{ending}"
        write_any(formulas, address)
        assert read_any(address).to_pylist() == formulas.to_pylist()
    with pytest.raises(ArtifactNotFound, match="nothing at"):
        read_any(f"{remote.root}/absent.csv")


def test_a_server_without_conditional_puts_is_named(
    monkeypatch: pytest.MonkeyPatch, build: Build, request_for: Make
) -> None:
    """A server that ignores If-None-Match, and one that refuses it."""
    backend = ArtifactStore(f"memory://{uuid.uuid4().hex}").backend
    assert isinstance(backend, object_backend.ObjectBackend)
    monkeypatch.setattr(backend, "protocol", "s3")
    monkeypatch.setattr(backend, "_path", lambda path: f"/{uuid.uuid5(uuid.NAMESPACE_URL, path)}")

    def ignores(path: str, data: bytes, mode: str = "overwrite") -> None:
        type(backend.fs).pipe_file(backend.fs, path, data)

    def refuses(path: str, data: bytes, mode: str = "overwrite") -> None:
        raise NotImplementedError("A header you provided implies functionality that is not implemented")

    for fake in (ignores, refuses):
        monkeypatch.setattr(backend.fs, "pipe_file", fake, raising=False)
        with pytest.raises(StoreError, match=r"does not support conditional puts \(If-None-Match\).*local folder"):
            backend.create("manifest.json", b"{}")


def test_missing_bucket_and_silent_server(
    s3_endpoint: str, monkeypatch: pytest.MonkeyPatch, build: Build, request_for: Make
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    absent = ArtifactStore("s3://no-such-bucket/x", endpoint_url=s3_endpoint)
    assert absent.list() == []
    with pytest.raises(StoreError, match="no bucket for s3://no-such-bucket/x; create"):
        absent.get_or_build(request_for(), build)
    impatient = {"retries": {"max_attempts": 0}, "connect_timeout": 1}
    silent = ArtifactStore("s3://bucket/x", endpoint_url="http://127.0.0.1:9", config_kwargs=impatient)
    monkeypatch.setattr(silent.backend.fs, "retries", 1)
    with pytest.raises(
        StoreError, match=r"object store fails at s3://bucket/x/.*check its address and the credentials"
    ) as caught:
        silent.get_or_build(request_for(), build)
    assert "\n" not in str(caught.value)


def test_missing_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*_: Any, **__: Any) -> None:
        raise ImportError("Please install gcsfs to access Google Storage")

    monkeypatch.setattr(fsspec, "filesystem", absent)
    with pytest.raises(StoreError, match=r"no driver for gs://.*pip install"):
        ArtifactStore("gs://bucket/x")


def test_split_uri() -> None:
    assert split_uri("memory://a") == ("memory://", "a")
    assert split_uri("s3://b/c/d/") == ("s3://b/c", "d")
    assert split_uri("/a/b") == ("/a", "b")


def test_root_of_a_memory_store(build: Build, request_for: Make) -> None:
    store = ArtifactStore("memory://")
    ref = store.get_or_build(request_for(unique=uuid.uuid4().hex), build).ref
    assert store.resolve(ref.uri) == ref
    assert ArtifactStore.from_ref(ref).read_table(ref).num_rows == 2
