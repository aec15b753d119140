"""Deployments for real: a Prefect server, a process worker, a campaign started through the API."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun
from prefect.states import Scheduled

from deployments.deploy import WORK_POOL, Deployed, deploy, prefect_file, worker_command
from deployments.server import Server, ServerError
from flows.parameters import CampaignParameters


@pytest.fixture
def client(prefect_server: Server) -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as client:
        yield client


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A current folder that has nothing to do with us, and a `models/` of its own."""
    folder = tmp_path_factory.mktemp("elsewhere")
    (folder / "models").mkdir()
    (folder / "models" / "__init__.py").write_text("raise RuntimeError('the wrong models')")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield folder


@pytest.fixture(scope="module")
def deployed(prefect_server: Server, elsewhere: Path) -> dict[str, Deployed]:
    lines: list[str] = []
    made = deploy(prefect_server, str(elsewhere / "store"), say=lines.append)
    assert any(WORK_POOL in line for line in lines)
    assert worker_command(prefect_server) in lines[-1]
    return {item.name: item for item in made}


@pytest.fixture
def worker(prefect_server: Server, elsewhere: Path) -> Iterator[Path]:
    """A process worker of our pool, started in that folder; yields its log."""
    log_path = elsewhere / "worker.log"
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", WORK_POOL, "--name", "tests"]
    environment = os.environ | {
        "PREFECT_WORKER_QUERY_SECONDS": "2",
        "PYTHONSAFEPATH": "1",
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "INFO",
    }
    with log_path.open("w") as log:
        process = subprocess.Popen(command, cwd=elsewhere, env=environment, stdout=log, stderr=log)
    yield log_path
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:  # Prefect's worker, asked once, may wait for its server for ever
        process.kill()
        process.wait(30)


def wait_until_final(client: SyncPrefectClient, run_id: UUID, log: Path, limit_s: float = 600.0) -> FlowRun:
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        run = client.read_flow_run(run_id)
        if run.state is not None and run.state.is_final():
            return run
        time.sleep(1.0)
    pytest.fail(f"the run did not end within {limit_s:.0f} s; worker log:\n{log.read_text()[-4000:]}")


def test_schedules_limits_and_entrypoints(client: SyncPrefectClient, deployed: dict[str, Deployed]) -> None:
    assert {name: item.schedule for name, item in deployed.items()} == {
        "ingest/nightly": "0 2 * * *",
        "ingest/on-demand": None,
        "train/weekly": "0 4 * * 0",
        "train/on-demand": None,
        "cross-validate/on-demand": None,
        "tune/on-demand": None,
        "transfer/on-demand": None,
        "explain/on-demand": None,
        "campaign/on-demand": None,
        "featurize/on-demand": None,
    }
    campaign = client.read_deployment(UUID(deployed["campaign/on-demand"].identifier))
    assert campaign.entrypoint == "flows.campaign.campaign"
    assert campaign.work_pool_name == WORK_POOL
    assert campaign.global_concurrency_limit is not None
    assert campaign.global_concurrency_limit.limit == 1
    assert campaign.concurrency_options is not None
    assert campaign.concurrency_options.collision_strategy == "ENQUEUE"
    assert campaign.parameters["parameters"]["store"].endswith("/store")


def test_campaign_form_has_a_description_for_every_field(
    client: SyncPrefectClient, deployed: dict[str, Deployed]
) -> None:
    schema = client.read_deployment(UUID(deployed["campaign/on-demand"].identifier)).parameter_openapi_schema
    assert schema is not None
    fields = schema["definitions"]["CampaignParameters"]["properties"]
    assert set(fields) == set(CampaignParameters.model_fields)
    described = {name for name, field in fields.items() if field.get("description") or "$ref" in str(field)}
    assert described == set(fields)


def test_deploying_twice_changes_nothing(
    prefect_server: Server, deployed: dict[str, Deployed], elsewhere: Path, tmp_path: Path
) -> None:
    """Two of them, one with a schedule."""
    content = yaml.safe_load(prefect_file().read_text())
    names = {"ingest/nightly", "campaign/on-demand"}
    content["deployments"] = [
        one for one in content["deployments"]
        if f"{one['entrypoint'].rpartition('.')[2]}/{one['name']}" in names
    ]  # fmt: skip
    two = tmp_path / "prefect.yaml"
    two.write_text(yaml.safe_dump(content))
    again = deploy(prefect_server, str(elsewhere / "store"), say=lambda line: None, file=two)
    assert {item.name: item for item in again} == {name: deployed[name] for name in names}


def test_refusal_is_one_line(prefect_server: Server, tmp_path: Path) -> None:
    wrong = tmp_path / "prefect.yaml"
    content = yaml.safe_load(prefect_file().read_text())
    content["deployments"] = [content["deployments"][0] | {"entrypoint": "flows.ingest.no_such_flow"}]
    wrong.write_text(yaml.safe_dump(content))
    with pytest.raises(ServerError, match="could not deploy") as caught:
        deploy(prefect_server, str(tmp_path), say=lambda line: None, file=wrong)
    assert "\n" not in str(caught.value)


@pytest.mark.timeout(900)
def test_worker_runs_a_campaign_started_through_the_api(
    client: SyncPrefectClient, deployed: dict[str, Deployed], worker: Path, elsewhere: Path, tiny: Any
) -> None:
    one_worker = elsewhere / "one-worker.yaml"
    one_worker.write_text(yaml.safe_dump(tiny.cluster() | {"options": {"cores": 1, "dashboard_address": None}}))
    parameters = tiny.campaign() | {"store": str(elsewhere / "store"), "cluster": str(one_worker)}
    run = client.create_flow_run_from_deployment(
        UUID(deployed["campaign/on-demand"].identifier), parameters={"parameters": parameters}, state=Scheduled()
    )
    ended = wait_until_final(client, run.id, worker)
    assert ended.state_name == "Completed", f"{ended.state}\n{worker.read_text()[-4000:]}"
    assert list((elsewhere / "store").glob("candidates-*/manifest.json"))
    assert list((elsewhere / "store").glob("ranking-*/manifest.json"))
    assert list((elsewhere / "store").glob("report-*/manifest.json"))
