"""Servers for the tests of stores."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.redis_servers import BINARIES, Server


@pytest.fixture(params=BINARIES)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    """Run a server of each installed kind."""
    with Server(BINARIES[request.param], tmp_path / "server") as made:
        yield made


@pytest.fixture(scope="module", params=BINARIES)
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Run a server of each installed kind for all tests of a module."""
    with Server(BINARIES[request.param], tmp_path_factory.mktemp("server")) as made:
        yield made


@pytest.fixture
def emptied(shared: Server) -> Server:
    """Return the shared server without keys."""
    shared.client.flushall()
    return shared
