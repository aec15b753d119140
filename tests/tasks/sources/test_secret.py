"""The API key of the Materials Project: in the header of requests, and nowhere else."""

from __future__ import annotations

import logging
import secrets
import traceback
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from prefect import get_client
from prefect.blocks.system import Secret
from prefect.settings import PREFECT_LOGGING_LEVEL, temporary_settings

from flows.ingest import ingest
from flows.parameters import IngestParameters
from loopback.fault_proxy import FaultProxy
from loopback.faults import Fault, Schedule
from loopback.mp_server import MPServer
from loopback.records import Compound
from models.errors import InputError
from storage.pages import PageFolder
from storage.store import ArtifactStore
from tasks.parameters import QueryParameters, ServiceParameters, SourceParameters
from tasks.sources.errors import SourceError


def places_of(key: str, folder: Path) -> list[Path]:
    """Return the files below a folder that have a text in them, in compressed pages and tables too."""
    found = []
    for path in sorted(folder.rglob("*")):
        if path.is_file() and key.encode() in _contents(path):
            found.append(path)
    return found


def _contents(path: Path) -> bytes:
    data = path.read_bytes()
    if path.suffix == ".page":
        return data + zlib.decompress(data.split(b"\n", 2)[2])
    if path.suffix == ".parquet":
        return data + repr(pq.read_table(path).to_pydict()).encode()
    return data


def test_the_search_finds_what_there_is(tmp_path: Path) -> None:
    key = secrets.token_hex(16)
    body = b"x" * 500 + key.encode() + b"x" * 500
    PageFolder(tmp_path / "pages").write("address", body)
    pq.write_table(pa.table({"a": ["b", key] * 500}), tmp_path / "table.parquet", compression="zstd")
    (tmp_path / "a.sqlite").write_bytes(b"\x00" * 1000 + key.encode())
    (tmp_path / "other.txt").write_text("nothing")
    assert len(places_of(key, tmp_path)) == 3


class Runs:
    """Runs of the flow `ingest` on one cluster, and a look everywhere for their key."""

    def __init__(self, scheduler: str, home: Path, store: Path, key: str) -> None:
        self.scheduler, self.home, self.store, self.key = scheduler, home, store, key

    def run(self, url: str, **service: Any) -> Any:
        options = {"endpoint": url, "attempts": 2, "first_pause_s": 0.0, "requests_per_second": 1000.0} | service
        source = SourceParameters(
            source="mp",
            query=QueryParameters(chemsys=("Li-O", "Ca-O", "Na-S"), page_size=2),
            service=ServiceParameters(**options),
        )
        with temporary_settings({PREFECT_LOGGING_LEVEL: "DEBUG"}):
            return ingest(IngestParameters(store=str(self.store), cluster=self.scheduler, source=source))

    def check(self, *texts: str) -> None:
        """Look for the key wherever a run leaves something."""
        for text in texts:
            assert self.key not in text
        assert places_of(self.key, self.store) == []
        assert places_of(self.key, self.home) == []
        records = self.records()
        assert len(records) > 3
        assert not [record for record in records if self.key in record]

    def records(self) -> list[str]:
        with get_client(sync_client=True) as client:
            found: list[Any] = [
                *client.read_flow_runs(limit=200),
                *client.read_task_runs(limit=200),
                *client.read_logs(limit=200),
                *client.read_artifacts(limit=200),
                *client.read_block_documents(limit=200, include_secrets=False),
            ]
        return [record.model_dump_json() for record in found]


def everything_of(error: BaseException) -> str:
    """Return all that an exception says, also where it travels between processes."""
    pickled = cloudpickle.dumps(error).decode("latin-1")
    shown = "".join(traceback.format_exception(error))
    return "\n".join([str(error), repr(error), repr(error.args), repr(vars(error)), shown, pickled])


@pytest.fixture(scope="module")
def cluster(prefect_server: object, tiny: Any) -> Iterator[tuple[str, str]]:
    """Address of one cluster for all runs, and the key in the environment that its workers inherit."""
    from tasks.cluster import open_cluster

    key = secrets.token_hex(16)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MP_API_KEY", key)
        patch.setenv("PREFECT_LOGGING_LEVEL", "DEBUG")
        with open_cluster(str(tiny.cluster_file)) as runner:
            yield runner.address, key


@pytest.fixture
def runs(prefect_server: Any, cluster: tuple[str, str], tmp_path: Path) -> Runs:
    return Runs(cluster[0], Path(prefect_server.home), tmp_path / "store", cluster[1])


@pytest.fixture
def logs(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG)
    for name in ("urllib3", "mp_api", "distributed", "httpx", "prefect", "tasks"):
        caplog.set_level(logging.DEBUG, name)
    return caplog


@pytest.mark.timeout(300)
@pytest.mark.parametrize("place", ["environment", "block"])
def test_a_run_that_ends_well(
    runs: Runs,
    made_up: tuple[Compound, ...],
    place: str,
    logs: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    service = {}
    if place == "block":
        runs.key = secrets.token_hex(16)
        Secret(value=runs.key).save("mp-key-of-a-test", overwrite=True, _sync=True)  # type: ignore[call-arg]
        service["key_block"] = "mp-key-of-a-test"
    with MPServer(made_up, api_key=runs.key) as server:
        result = runs.run(server.url, **service)
    assert ArtifactStore(str(runs.store)).manifest(result.compounds).counts["rows_kept"] > 3
    output = capfd.readouterr()
    assert "DEBUG" in logs.text
    runs.check(logs.text, output.out, output.err, result.model_dump_json())


Start = Callable[..., FaultProxy]


@pytest.mark.timeout(300)
def test_runs_that_fail(
    runs: Runs,
    made_up: tuple[Compound, ...],
    fault_proxy: Start,
    logs: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """A server that refuses the key, and one that breaks down after the first page."""
    with MPServer(made_up, api_key="f" * 32) as server, pytest.raises(InputError, match="check the key") as refused:
        runs.run(server.url)
    with MPServer(made_up, api_key=runs.key) as server:
        proxy = fault_proxy(server, Schedule.always(Fault.INTERNAL, "_skip"))
        with pytest.raises(SourceError, match="status 500") as broken:
            runs.run(proxy.url)
        assert any("_skip" not in name for name in proxy.pages())
    output = capfd.readouterr()
    texts = [everything_of(error.value) for error in (refused, broken)]
    assert all(len(text) > 500 for text in texts)
    runs.check(logs.text, output.out, output.err, *texts)
    assert list(runs.store.rglob("*.page"))
