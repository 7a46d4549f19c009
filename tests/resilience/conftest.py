"""The server that tests of stores share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fleet.servers import BINARIES, Server


@pytest.fixture(params=BINARIES)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    """Run one server of each kind that exists here."""
    with Server(BINARIES[request.param], tmp_path / "server") as made:
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
