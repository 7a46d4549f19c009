"""The servers that tests of the fleet share."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fleet.servers import BINARIES, Server


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not hasattr(os, "fork"):  # ledgers of a host, and with them a fleet, are for POSIX
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(pytest.mark.skip(reason="POSIX processes: run on Linux or macOS"))


@pytest.fixture(params=BINARIES)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    """Run one server of each kind that exists here."""
    with Server(BINARIES[request.param], tmp_path / "server") as made:
        yield made


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Server]:
    """Run the server that always exists, where the kind makes no difference."""
    with Server(BINARIES["valkey"], tmp_path / "server") as made:
        yield made


@pytest.fixture(scope="module", params=BINARIES)
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Run one server of each kind for many tests that need no new one."""
    with Server(BINARIES[request.param], tmp_path_factory.mktemp("server")) as made:
        yield made


@pytest.fixture
def emptied(shared: Server) -> Server:
    """Return it without keys."""
    shared.client.flushall()
    return shared
