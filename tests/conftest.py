"""What all tests share: reference data, one Prefect server, hypothesis profiles."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

REPOSITORY = Path(__file__).resolve().parents[1]

# derandomised: a failure in continuous integration is a failure at home
settings.register_profile("default", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("soak", parent=settings.get_profile("default"), max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


def reference_folder() -> Path:
    """Folder of the reference data; it need not exist."""
    return Path(os.environ.get("ELEMSCREEN_REFERENCE_DATA") or REPOSITORY.parent / "shared" / "data")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if reference_folder().is_dir():
        return
    reason = f"no reference data at {reference_folder()}: set ELEMSCREEN_REFERENCE_DATA"
    for item in items:
        if item.get_closest_marker("reference_data"):
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def reference_data() -> Path:
    """Folder of the reference data; tests that use it are marked `reference_data`."""
    return reference_folder()


@pytest.fixture(scope="session")
def server_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Store whose embedded server all tests share, those of other test processes too."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "server-store"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def prefect_server(server_store: Path) -> Iterator[object]:
    """One embedded Prefect server for the whole run (`deployments.server.Server`)."""
    from deployments.server import embedded_server

    with embedded_server(server_store) as server:
        yield server
