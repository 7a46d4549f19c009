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
    *("fleet/test_probes", "fleet/test_server_faults", "fleet/test_topologies", "http/test_deadline"),
    *("http/test_outcomes", "integrations/test_sqlalchemy_server", "packaging/test_versions", "platform/test_deploy"),
    *("platform/test_health", "platform/security/test_slow", "processes/test_bulkhead", "processes/test_gunicorn"),
    *("processes/test_leader", "processes/test_ledger_in_use", "processes/test_monitor", "processes/test_processes"),
    *("processes/test_survivors", "processes/test_trouble", "processes/test_unannounced_forks", "processes/test_uwsgi"),
    *("proofs/test_fleet", "proofs/test_turmoil", "resilience/test_hostfile", "resilience/test_rate"),
    *("servicekit/test_fleet", "servicekit/test_page"),
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
