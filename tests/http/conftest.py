"""What tests of the HTTP client share."""

import pytest

from cb import BreakerConfig, CircuitBreaker
from cb.http import HTTPClient
from tests.misbehaving import Server


@pytest.fixture
def breaker() -> CircuitBreaker:
    return CircuitBreaker("service", BreakerConfig(failure_threshold=3))


@pytest.fixture
def client(server: Server, breaker: CircuitBreaker) -> HTTPClient:
    return HTTPClient(server.url, 2, breaker)


def counted(breaker: CircuitBreaker) -> tuple[int, int, int]:
    totals = breaker.snapshot().totals
    return totals.successes, totals.failures, totals.neutral
