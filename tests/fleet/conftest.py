"""Fixtures for tests of the fleet: servers."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fleet.by_hand import CONNECTIONS
from tests.support.redis_servers import BINARIES, Server


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not hasattr(os, "fork"):  # ledgers in files, and so fleets, need POSIX
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(pytest.mark.skip(reason="POSIX processes: run on Linux or macOS"))


@pytest.fixture(autouse=True)
def _closed_connections() -> Iterator[None]:
    yield
    while CONNECTIONS:
        CONNECTIONS.pop().close()


@pytest.fixture(params=BINARIES)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    """Run a server of each installed kind."""
    with Server(BINARIES[request.param], tmp_path / "server") as made:
        yield made


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Server]:
    """Run Valkey, which is always installed, for tests in which the kind makes no difference."""
    with Server(BINARIES["valkey"], tmp_path / "server") as made:
        yield made


@pytest.fixture(scope="module", params=BINARIES)
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Run a server of each installed kind, shared by the tests of a module."""
    with Server(BINARIES[request.param], tmp_path_factory.mktemp("server")) as made:
        yield made


@pytest.fixture
def emptied(shared: Server) -> Server:
    """Return the shared server without keys."""
    shared.client.flushall()
    return shared
