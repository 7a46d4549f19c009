"""Fixtures for the tests of all parts."""

import gc
import os
import shutil
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
import requests

from cb import Monitor
from cb.background.leader import Leader
from tests.support.databases import PostgreSQL
from tests.support.misbehaving import Server

#: isolates the ledgers of a test run from the next run and from services on this host
pytest_plugins = ["cb.integrations.pytest_plugin"]

_numbers = count()
#: file system in memory, and the free bytes that the tests need there
MEMORY, ROOM = Path("/dev/shm"), 4 << 30


def pytest_configure() -> None:
    """Create the directories of tests in memory: on a disk they would spend most of their time waiting for it."""
    if "PYTEST_DEBUG_TEMPROOT" not in os.environ and MEMORY.is_dir():
        may_execute = not os.statvfs(MEMORY).f_flag & os.ST_NOEXEC
        if may_execute and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > ROOM:
            os.environ["PYTEST_DEBUG_TEMPROOT"] = str(MEMORY)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Skip files without the mark that `-m` starts with, `quiet` or `nightly`: to import them takes seconds."""
    mark = config.option.markexpr.partition(" ")[0]
    if mark not in ("quiet", "nightly") or not collection_path.match("test_*.py"):
        return None
    return f"pytest.mark.{mark}" not in collection_path.read_text() or None


def pytest_collection_finish() -> None:
    """Leave all that was imported and collected out of later garbage collections: each would take a second."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="module")
def _ended_background_work() -> Iterator[None]:
    """End the background work of apps that a module made: it would log while other tests read the log."""
    yield
    for each in gc.get_objects():
        if type(each) in (Monitor, Leader):
            each.close()
    gc.collect()  # the watchdog ticks for breakers that no variable holds any more until they are collected


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[PostgreSQL]:
    with PostgreSQL.running() as server:
        yield server


@pytest.fixture
def postgresql(postgresql_server: PostgreSQL) -> Iterator[PostgreSQL]:
    """Yield a running server, also after a test that stopped it."""
    postgresql_server.start()
    yield postgresql_server
    postgresql_server.resume()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Yield the URL of an empty database, of each kind that the services support."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/data/portfolio.db"
        return
    server: PostgreSQL = request.getfixturevalue("postgresql")
    name = f"test-{next(_numbers)}"
    yield server.create(name)
    server.drop(name)


@pytest.fixture
def server() -> Iterator[Server]:
    """Yield a server whose responses the test defines."""
    server = Server()
    yield server
    server.close()


@pytest.fixture
def session() -> Iterator[requests.Session]:
    """Yield a session that ignores the environment."""
    with requests.Session() as session:
        session.trust_env = False
        yield session
