"""What tests of all parts share."""

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
#: tests that measure, or wait for a moment: a machine that does much else would fail them
QUIET = (
    *("fleet/test_agent", "fleet/test_health", "fleet/test_load", "fleet/test_opening", "fleet/test_partition"),
    *("fleet/test_probes", "fleet/test_prove", "fleet/test_server_faults", "fleet/test_topologies"),
    *("http/test_deadline", "http/test_outcomes", "packaging/test_versions", "platform/test_deploy"),
    *("platform/test_health", "resilience/test_hostfile", "resilience/test_rate", "security/test_slow"),
    *("test_bulkhead", "test_duty", "test_gunicorn", "test_ledger_in_use", "test_monitor", "test_processes"),
    *("test_sql_server", "test_survivors", "test_trouble", "test_turmoil", "test_unannounced_forks", "test_uwsgi"),
    *("web/test_fleet", "web/test_page"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        path = item.path.relative_to(Path(__file__).parent).as_posix()
        if path.startswith(QUIET):
            item.add_marker("quiet")


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
