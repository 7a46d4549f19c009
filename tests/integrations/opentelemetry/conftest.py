"""Fixtures for the tests of the OpenTelemetry integration."""

import pytest

from cb import BreakerConfig, Registry
from tests.support.telemetry import Telemetry


@pytest.fixture
def telemetry() -> Telemetry:
    return Telemetry.new()


@pytest.fixture
def registry() -> Registry:
    return Registry(defaults=BreakerConfig(failure_threshold=2, minimum_requests=100, timeout_jitter=0))
