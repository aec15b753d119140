"""pytest fixtures of the loopback servers: `pytest_plugins = ["loopback.fixtures"]` in the outermost conftest."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence

import pytest

from loopback.fault_proxy import FaultProxy
from loopback.faults import Schedule
from loopback.mp_server import MPServer
from loopback.optimade_server import OptimadeServer
from loopback.oqmd_server import OQMDServer
from loopback.records import Compound, compounds

ProxyFactory = Callable[..., FaultProxy]


@pytest.fixture(scope="session")
def made_up() -> tuple[Compound, ...]:
    """What every server's database holds."""
    return compounds()


@pytest.fixture(scope="session")
def mp_server(made_up: tuple[Compound, ...]) -> Iterator[MPServer]:
    """The Materials Project; its key is `mp_server.api_key`."""
    with MPServer(made_up) as server:
        yield server
        assert not server.errors


@pytest.fixture(scope="session")
def oqmd_server(made_up: tuple[Compound, ...]) -> Iterator[OQMDServer]:
    """OQMD; another form of `links.next` with `OQMDServer(next_as_object=True)`."""
    with OQMDServer(made_up) as server:
        yield server
        assert not server.errors


@pytest.fixture(scope="session")
def optimade_servers(
    made_up: tuple[Compound, ...], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], OptimadeServer]]:
    """Give the OPTIMADE server of a provider's prefix, started once."""
    for name in ("optimade", "uvicorn", "mongomock"):
        pytest.importorskip(name, reason=f"{name} is not installed: pip install 'optimade[server]'")
    running: dict[str, OptimadeServer] = {}

    def server(prefix: str = "oqmd") -> OptimadeServer:
        if prefix not in running:
            running[prefix] = OptimadeServer(tmp_path_factory.mktemp(f"optimade-{prefix}"), prefix, made_up)
        return running[prefix]

    yield server
    for one in running.values():
        one.close()


@pytest.fixture(scope="session")
def optimade_server(
    request: pytest.FixtureRequest, optimade_servers: Callable[[str], OptimadeServer]
) -> OptimadeServer:
    """OPTIMADE as OQMD serves it, or as the prefix of an indirect parameter does."""
    return optimade_servers(getattr(request, "param", "oqmd"))


def forget_heartbeats() -> None:
    """Empty the memory of the Materials Project's client: a new proxy may listen where an old one answered."""
    if "mp_api.client" in sys.modules:  # else nothing was asked for, and the client takes seconds to import
        from mp_api.client import MPRester

        MPRester._get_heartbeat_info.cache_clear()
        MPRester.get_emmet_version.cache_clear()


@pytest.fixture
def fault_proxy() -> Iterator[ProxyFactory]:
    """Give `fault_proxy(server_or_url, schedule=None, retry_after=...)`; all proxies end with the test."""
    running: list[FaultProxy] = []
    forget_heartbeats()

    def proxy(
        upstream: str | MPServer | OQMDServer | OptimadeServer,
        schedule: Schedule | None = None,
        retry_after: Sequence[str | None] = ("0", "1", "date", None),
    ) -> FaultProxy:
        running.append(FaultProxy(upstream if isinstance(upstream, str) else upstream.url, schedule, retry_after))
        return running[-1]

    yield proxy
    for one in running:
        one.close()
    assert not [error for one in running for error in one.errors]
