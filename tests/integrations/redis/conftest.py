"""Fixtures: a server for each module, and guarded clients of it."""

from collections.abc import Iterator

import pytest

from cb import CircuitBreaker, Ledger
from cb.integrations.redis import guard_redis
from tests.integrations.redis.clients import CONFIG, MODULES, Client
from tests.support.redis_servers import BINARIES, Server


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(BINARIES["valkey"], tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def store(shared: Server) -> Server:
    """Return the server of the module, which answers and is empty."""
    shared.resume()
    shared.client.flushall()
    return shared


@pytest.fixture
def breaker() -> CircuitBreaker:
    return CircuitBreaker("redis", CONFIG, ledger=Ledger.in_memory())


@pytest.fixture(params=MODULES)
def client(request: pytest.FixtureRequest, store: Server, breaker: CircuitBreaker) -> Iterator[Client]:
    """Yield a guarded client of each kind."""
    client = Client(request.param, store.port)
    guard_redis(client.raw, breaker)
    yield client
    store.resume()
    client.close()
