"""How the gateway reaches the services that it depends on, those on the wire and those in process."""

import math
from collections.abc import Callable

from flask import Flask

from cb import Bulkhead, CircuitBreaker, Monitor
from cb.http import HTTPClient
from gateway.http.health import readiness
from servicekit import Faults, Settings, limits, load_settings
from servicekit.access import service_headers
from servicekit.server_settings import url_host


class Services:
    """Makes what each service is called with, and watches the health of those on the wire."""

    def __init__(self, app: Flask, settings: Settings) -> None:
        self._app = app
        self._settings = settings
        self._own = settings.service
        self._limits = limits(settings, "market-data", "portfolio", "database")
        self.monitor = Monitor()

    def breaker(self, name: str) -> CircuitBreaker:
        """Return the breaker of a service."""
        found: CircuitBreaker = self._app.extensions["circuit_breakers"].registry.get(name)
        return found

    def bulkhead(self, name: str) -> Bulkhead:
        """Return what limits the calls that all workers have at once with market-data, portfolio or database."""
        return Bulkhead(self.breaker(name), self._limits[name], self._own["limit_wait"])

    def client(self, name: str) -> HTTPClient:
        """Return a client for a service on the wire."""
        key = name.replace("-", "_")
        url = self._own[f"{key}_url"] or f"http://{url_host(self._settings.host)}:{load_settings(name).port}"
        headers = service_headers(self._settings)
        made = HTTPClient(url, self._own[f"{key}_timeout"], self.bulkhead(name), headers=headers)
        self.monitor.add(self.breaker(name), readiness(name, made), interval=self._own["health_interval"])
        return made

    def simulation(self, name: str) -> Callable[..., None]:
        """Register the simulated faults of an in-process service; return the function that applies them to one call.

        The function may be given the seconds that its caller can wait; it never waits longer than the timeout.
        """
        timeout, faults = self._own[f"{name}_timeout"], Faults(self._app, name, f"/api/v1/{name}")

        def apply(seconds: float = math.inf) -> None:
            faults.apply(min(seconds, timeout))

        return apply
