"""Breakers, bulkheads, clients and simulated faults of the services that the gateway depends on."""

import math
from collections.abc import Callable

from flask import Flask

from cb import Bulkhead, CircuitBreaker, Monitor
from cb.http import HTTPClient
from gateway.trading.errors import DependencyError
from servicekit import Faults, Settings, load_settings
from servicekit.access import service_headers
from servicekit.server_settings import url_host

#: total seconds of a health check
HEALTH_TIMEOUT = 1.0


class Dependencies:
    """Creates the objects through which each service is called, and monitors the health of the remote services."""

    def __init__(self, app: Flask, settings: Settings) -> None:
        self._app = app
        self._settings = settings
        self._own = settings.service
        self._limits = settings.bulkhead_limits("market-data", "portfolio", "database")
        self.monitor = Monitor()

    def breaker(self, name: str) -> CircuitBreaker:
        """Return the breaker of a service."""
        found: CircuitBreaker = self._app.extensions["circuit_breakers"].registry.get(name)
        return found

    def bulkhead(self, name: str) -> Bulkhead:
        """Return the bulkhead of market-data, portfolio or database, shared by all workers."""
        return Bulkhead(self.breaker(name), self._limits[name], self._own["limit_wait"])

    def client(self, name: str) -> HTTPClient:
        """Return the client of a remote service."""
        key = name.replace("-", "_")
        url = self._own[f"{key}_url"] or f"http://{url_host(self._settings.host)}:{load_settings(name).port}"
        headers = service_headers(self._settings)
        client = HTTPClient(url, self._own[f"{key}_timeout"], self.bulkhead(name), headers=headers)
        self.monitor.add(self.breaker(name), readiness(name, client), interval=self._own["health_interval"])
        return client

    def simulation(self, name: str) -> Callable[..., None]:
        """Register the simulated faults of a service in process, and return the function that applies them to a call.

        The function accepts the seconds that its caller can wait; it waits at most that long and at most the timeout.
        """
        timeout, faults = self._own[f"{name}_timeout"], Faults(self._app, name, f"/api/v1/{name}")

        def apply(seconds: float = math.inf) -> None:
            faults.apply(min(seconds, timeout))

        return apply


def readiness(name: str, client: HTTPClient) -> Callable[[], None]:
    """Return a health check that raises DependencyError or ClientError unless the service is ready.

    Readiness decides if the circuit may close: liveness is not enough, and the state of the service's own dependencies
    is a matter of its callers.
    """

    def check() -> None:
        status = client.get_json_unguarded("/api/v1/health/ready", HEALTH_TIMEOUT).get("status")
        if status != "UP":
            raise DependencyError(name, f"is {status}")

    return check
