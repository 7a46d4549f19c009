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
