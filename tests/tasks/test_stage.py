"""What all stages share: the look into the store, what is worth another try, progress, fan-out, the report."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from distributed import Client, LocalCluster
from pydantic import BaseModel, ValidationError

from models.errors import InputError
from storage.artifact import ArtifactRef, ArtifactRequest
from storage.errors import LeaseTimeout, SchemaError
from storage.store import ArtifactWriter
from tasks import progress as progress_module
from tasks.fanout import MIN_ITEMS, fan_out
from tasks.progress import Progress, listen, send
from tasks.report import report
from tasks.stage import build, reference, stage, worth_retrying


@pytest.fixture
def heard() -> Iterator[list[dict[str, Any]]]:
    events: list[dict[str, Any]] = []
    stop = listen(events.append)
    yield events
    stop()


# Stage


def test_a_hit_is_a_state_named_cached(tmp_path: Path, heard: list[dict[str, Any]]) -> None:
    def write(writer: ArtifactWriter) -> None:
        writer.write_json("a.json", {"a": 1})

    request = ArtifactRequest("note", "tests", 1, {"a": 1})
    first = build(str(tmp_path), request, write)
    assert isinstance(first, ArtifactRef)
    second: Any = build(str(tmp_path), request, write)
    assert (second.name, second.type.value) == ("Cached", "COMPLETED")
    assert reference(second) == reference(first) == first
    assert [event["state"] for event in heard] == ["building", "built", "cached"]
    assert {event["key"] for event in heard} == {first.key}


def test_a_build_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def write(writer: ArtifactWriter) -> None:
        writer.write_json("a.json", {})
        raise InputError("no")

    with pytest.raises(InputError):
        build(str(tmp_path), ArtifactRequest("note", "tests", 1), write)
    assert not list(tmp_path.glob("note-*"))
    assert not list(tmp_path.glob(".tmp/*"))


class Number(BaseModel):
    number: int


def validation_error() -> ValidationError:
    try:
        Number(number="x")  # type: ignore[arg-type]
    except ValidationError as error:
        return error
    raise AssertionError


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (InputError("bad"), False),
        (SchemaError("bad"), False),
        (LeaseTimeout("slow"), False),
        (validation_error(), False),
        (AssertionError(), False),
        (OSError("the disk"), True),
        (ConnectionError("the network"), True),
        (MemoryError(), True),
    ],
)
def test_only_what_can_mend_is_tried_again(error: Exception, expected: bool) -> None:
    state: Any = SimpleNamespace(result=lambda raise_on_failure: error)
    nothing: Any = None
    assert worth_retrying(nothing, nothing, state) is expected


def test_prefect_keeps_no_cache_and_no_results() -> None:
    @stage("mine", retries=7)
    def mine() -> None:
        return

    assert (mine.retries, mine.persist_result) == (7, False)
    assert mine.cache_policy is not None
    assert mine.cache_policy.compute_key(task_ctx=None, inputs={}, flow_parameters={}) is None  # type: ignore[arg-type]
    assert mine.retry_condition_fn is worth_retrying


# Progress


def test_progress_is_sent_now_and_then(monkeypatch: pytest.MonkeyPatch, heard: list[dict[str, Any]]) -> None:
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: clock.now)
    progress = Progress("work", 100, "things")
    for done, at in ((1, 0.1), (2, 0.9), (10, 1.1), (11, 1.2), (50, 2.5), (100, 2.6)):
        clock.now = at
        progress.update(done, "well")
    assert [event["done"] for event in heard] == [10, 50, 100]
    assert heard[-1] | {"id": ""} == {
        "event": "progress",
        "id": "",
        "label": "work",
        "done": 100,
        "total": 100,
        "unit": "things",
        "message": "well",
        "elapsed_s": 2.6,
        "is_whole": False,
    }


def test_work_that_is_over_at_once_says_nothing(monkeypatch: pytest.MonkeyPatch, heard: list[dict[str, Any]]) -> None:
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: 0.0)
    Progress("work", 2).update(2)
    assert heard == []


def test_nobody_listens_after_the_end() -> None:
    events: list[dict[str, Any]] = []
    stop = listen(events.append)
    send({"event": "a"})
    stop()
    send({"event": "b"})
    assert events == [{"event": "a"}]


# Fan-out


def square(x: int) -> int:
    if x < 0:
        raise InputError("negative")
    return x * x


def fanned(items: list[int], chunk: int) -> list[int]:
    return fan_out(square, items, "squares", chunk)


def test_fan_out_in_this_process() -> None:
    assert fanned(list(range(10)), 3) == [x * x for x in range(10)]
    assert fanned([], 3) == []
    with pytest.raises(InputError, match="negative"):
        fanned([1, -1], 3)


def test_fan_out_over_workers_keeps_the_order() -> None:
    items = list(range(2 * MIN_ITEMS + 5))
    cluster = LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None)
    with cluster, Client(cluster) as client:
        assert client.submit(fanned, items, 7).result(timeout=60) == [x * x for x in items]
        with pytest.raises(InputError, match="negative"):
            client.submit(fanned, [*items, -1], 7).result(timeout=60)


# Report


def roles(stages: Any) -> dict[str, ArtifactRef | None]:
    return {
        "energies": stages.energies,
        "structures": stages.structures,
        "electrolytes": stages.structures,
        "known": None,
        "references": stages.references,
        "phases": stages.phases,
        "training": stages.training,
        "features": stages.features,
        "network": stages.network,
        "predictions": stages.predictions,
        "calibration": stages.calibration,
        "moduli_network": stages.moduli_network,
        "moduli": stages.moduli,
    }


def test_the_report_stands_alone_and_is_the_same_everywhere(stages: Any, tmp_path: Path) -> None:
    """Another folder, store or cluster in the parameters is no other report; made anew it is the same page."""
    here = {"store": "/here", "cluster": "local", "energies": {"source": "file:/here/energies.parquet"}}
    there = {"store": "/there", "cluster": "slurm", "energies": {"source": "file:/there/energies.parquet"}}
    first = stages.run(report, "tiny", here, roles(stages))
    assert stages.run(report, "tiny", there, roles(stages)).key == first.key
    assert stages.run(report, "other", here, roles(stages)).key != first.key
    page = stages.store.read_bytes(first, "report.html").decode()
    assert page.lstrip().lower().startswith("<!doctype html>")
    assert all(ref.key in page for ref in roles(stages).values() if ref is not None)
    assert "/here" not in page
    assert 'src="http' not in page
    assert '<link rel="stylesheet" href="http' not in page

    from tasks.report import _without_folders, _write

    writer = SimpleNamespace(pages=[])
    writer.write_bytes = lambda name, data: writer.pages.append(data)
    made = {role: ref for role, ref in roles(stages).items() if ref is not None}
    _write(writer, stages.store, {"title": "tiny", "parameters": _without_folders(here)}, made)  # type: ignore[arg-type]
    assert writer.pages == [page.encode()]


def test_a_report_of_little(stages: Any) -> None:
    ref = stages.run(report, "only phases", {}, {"energies": stages.energies, "phases": stages.phases})
    assert stages.phases.key in stages.store.read_bytes(ref, "report.html").decode()


def test_calibration_is_json(stages: Any) -> None:
    assert set(json.loads(stages.store.read_bytes(stages.calibration, "calibration.json"))) == {
        "probability",
        "residuals",
    }
