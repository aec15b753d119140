"""The real campaign on a tiny chemistry: a Prefect server, a Dask cluster with two workers, every stage."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import TaskRunFilter, TaskRunFilterFlowRunId
from prefect.client.schemas.objects import FlowRun, TaskRun
from prefect.client.schemas.sorting import FlowRunSort, TaskRunSort

from flows.campaign import campaign
from flows.parameters import CampaignParameters
from flows.run import CampaignResult
from killing import check_killed
from models.errors import InputError
from storage.store import ArtifactStore

#: What one campaign leaves behind: artifacts by kind, beside the parts of the screen.
KINDS = {
    "compounds": 3,
    "references": 1,
    "phases": 1,
    "training": 1,
    "features": 1,
    "graphs": 1,
    "model": 2,
    "predictions": 1,
    "calibration": 1,
    "candidates": 1,
    "moduli": 1,
    "ranking": 1,
    "report": 1,
}

#: Tasks that ask for what another task of the same campaign made: structures and electrolytes are one file.
REPEATED = 2


class Campaigns:
    """Campaigns in one store, and what Prefect says of their task runs."""

    def __init__(self, root: Path, tiny: Any, scheduler: str) -> None:
        self.store = ArtifactStore(root)
        self.parameters = CampaignParameters(**tiny.campaign() | {"store": str(root), "cluster": scheduler})
        self.first = self.run()
        self.contents = self.state()

    def run(self) -> CampaignResult:
        return campaign(self.parameters)

    def state(self) -> dict[str, str]:
        """Digest of every artifact, verified, by key."""
        return {ref.key: self.store.verify(ref).digest for ref in self.store.list()}

    def is_ours(self, run: FlowRun) -> bool:
        """Whether a flow run worked on our store."""
        return dict(run.parameters.get("parameters", {})).get("store") == self.parameters.store

    def task_states(self) -> dict[str, list[str]]:
        """Return the task runs of the newest campaign, by the name of their state; they reach the server with delay."""
        expected = len(self.contents) + REPEATED
        with get_client(sync_client=True) as client:
            # other tests run campaigns on the same server at the same time: ours are those of our store
            runs = client.read_flow_runs(sort=FlowRunSort.EXPECTED_START_TIME_DESC, limit=100)
            newest = next(run for run in runs if run.parent_task_run_id is not None and self.is_ours(run))
            mine = TaskRunFilter(flow_run_id=TaskRunFilterFlowRunId(any_=[newest.id]))
            found: list[TaskRun] = []
            deadline = time.monotonic() + 180
            while len(found) < expected and time.monotonic() < deadline:
                time.sleep(0.2)
                runs_now = client.read_task_runs(
                    task_run_filter=mine, sort=TaskRunSort.EXPECTED_START_TIME_DESC, limit=200
                )
                found = [run for run in runs_now if run.state is not None and run.state.is_final()]
        assert len(found) == expected
        states: dict[str, list[str]] = {}
        for run in found:
            states.setdefault(str(run.state_name), []).append(run.name.rsplit("-", 1)[0])
        return {name: sorted(tasks) for name, tasks in states.items()}


@pytest.fixture(scope="module")
def campaigns(scheduler: str, tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Campaigns:
    return Campaigns(tmp_path_factory.mktemp("campaign") / "store", tiny, scheduler)


@pytest.mark.timeout(600)
def test_it_ends_with_candidates_ranking_and_report(campaigns: Campaigns) -> None:
    result, store = campaigns.first, campaigns.store
    assert isinstance(result, CampaignResult)
    kinds = Counter(key.rsplit("-", 1)[0] for key in campaigns.contents)
    assert kinds.pop("candidates_part") > 4
    assert kinds == KINDS
    candidates = store.read_table(result.candidates)
    assert candidates.num_rows == store.manifest(result.candidates).counts["below"] > 0
    ranking = store.read_table(result.ranking).to_pandas()
    # lithium compounds; CsCl structures lie above the hull and sulphides have too small a gap
    expected = {f"{prototype}-Li{anion}" for prototype in ("rocksalt", "ZnS") for anion in ("O", "F", "Cl", "Br")}
    assert set(ranking["material_id"]) == expected
    page = store.read_bytes(result.report, "report.html").decode()
    assert result.candidates.key in page
    states = campaigns.task_states()
    assert states.pop("Cached") == ["featurize-graphs", "ingest"]
    assert {name: len(tasks) for name, tasks in states.items()} == {"Completed": len(campaigns.contents)}


def test_without_crystals_to_learn_from_it_ends_before_it_trains(scheduler: str, tiny: Any, tmp_path: Path) -> None:
    given = tiny.campaign() | {"store": str(tmp_path / "store"), "cluster": scheduler}
    with pytest.raises(InputError, match=r"0 compounds have a structure.*`structures` of a campaign"):
        campaign(CampaignParameters(**given | {"structures": given["energies"]}))
    assert not ArtifactStore(tmp_path / "store").list("model")


def test_a_second_run_builds_what_was_damaged_and_takes_the_rest_from_the_store(campaigns: Campaigns) -> None:
    """One cut short, one with a bit turned over, one whose manifest was edited: all come back as they were."""
    store = campaigns.store

    def payload(kind: str, name: str) -> Path:
        return store.local_path(store.list(kind)[0], name)

    damage: dict[str, tuple[Path, Callable[[bytes], bytes]]] = {
        "features": (payload("features", "features.parquet"), lambda data: data[: len(data) // 2]),
        "candidates": (payload("candidates", "candidates.parquet"), flip),
        "moduli": (
            Path(store.list("moduli")[0].uri) / "manifest.json",
            lambda data: data.replace(b'"rows": 75', b'"rows": 76'),
        ),
    }
    for path, change in damage.values():
        before = path.read_bytes()
        path.chmod(0o644)
        path.write_bytes(change(before))
        assert path.read_bytes() != before
    assert campaigns.run() == campaigns.first
    assert campaigns.state() == campaigns.contents
    set_aside = {path.name.rsplit("-", 1)[0] for path in Path(store.root, ".damaged").iterdir()}
    assert set_aside == set(damage)
    states = campaigns.task_states()
    assert states.pop("Completed") == ["featurize-fractions", "merge-candidates", "predict-moduli"]
    assert list(states) == ["Cached"]


def flip(data: bytes) -> bytes:
    """Turn one bit over in the middle."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


@pytest.mark.timeout(600)
def test_killed_in_the_middle(campaigns: Campaigns, scheduler: str, tiny: Any, tmp_path: Path) -> None:
    """With server and workers, while the network trains or the space is screened; another cluster goes on."""

    def run_again(tiny: Any, root: Path) -> dict[str, str]:
        return Campaigns(root, tiny, scheduler).contents

    check_killed(tiny, tmp_path / "store", 8, 1, campaigns.contents, run_again)
