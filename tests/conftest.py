"""What tests of all parts share."""

import os
import shutil
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
import requests

from tests.support.databases import PostgreSQL
from tests.support.misbehaving import Server

#: no circuit of a test is open in the next run, or in what runs on this host
pytest_plugins = ["cb.integrations.pytest_plugin"]

_numbers = count()
#: file system in memory, and the free bytes that the tests need there
MEMORY, ROOM = Path("/dev/shm"), 4 << 30


def pytest_configure() -> None:
    """Keep the directories of tests in memory: on a disk, most of their time would go into waiting for it."""
    if "PYTEST_DEBUG_TEMPROOT" not in os.environ and MEMORY.is_dir():
        may_execute = not os.statvfs(MEMORY).f_flag & os.ST_NOEXEC
        if may_execute and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > ROOM:
            os.environ["PYTEST_DEBUG_TEMPROOT"] = str(MEMORY)


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[PostgreSQL]:
    with PostgreSQL.running() as server:
        yield server


@pytest.fixture
def postgresql(postgresql_server: PostgreSQL) -> Iterator[PostgreSQL]:
    """Yield a server that runs, whatever the test before did to it."""
    postgresql_server.start()
    yield postgresql_server
    postgresql_server.resume()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Yield the URL of an empty database, of each kind that the services know."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/data/portfolio.db"
        return
    server: PostgreSQL = request.getfixturevalue("postgresql")
    name = f"test-{next(_numbers)}"
    yield server.create(name)
    server.drop(name)


@pytest.fixture
def server() -> Iterator[Server]:
    """Yield a server that does what the test tells it."""
    server = Server()
    yield server
    server.close()


@pytest.fixture
def session() -> Iterator[requests.Session]:
    """Yield a session that takes nothing from the environment."""
    with requests.Session() as session:
        session.trust_env = False
        yield session
