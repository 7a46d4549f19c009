"""The requests of the walk-through to the running services."""

import os
import time
from dataclasses import dataclass
from typing import Any

import requests

TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True)
class TradeResponse:
    """The response to an order, and its duration in seconds."""

    status: int
    body: dict[str, Any]
    retry_after: str | None
    seconds: float

    @property
    def filled(self) -> bool:
        return self.status == 201

    @property
    def rejected(self) -> bool:
        """True if the open circuit rejected it, without a call to market data."""
        return self.status == 503 and self.body.get("code") == "circuit-open"


class Client:
    """A client of the gateway that also sets the simulated faults of the market data service."""

    def __init__(self, gateway: str, market_data: str, user: str) -> None:
        self._gateway = gateway
        self._market_data = market_data
        self._user = user
        self._session = requests.Session()
        self._session.trust_env = False

    def trade(self) -> TradeResponse:
        """Buy one share of AAPL."""
        order = {"userId": self._user, "symbol": "AAPL", "quantity": 1, "orderType": "BUY", "price": 150.00}
        start = time.perf_counter()
        response = self._session.post(f"{self._gateway}/api/v1/trades", json=order, timeout=TIMEOUT_SECONDS)
        seconds = time.perf_counter() - start
        return TradeResponse(response.status_code, response.json(), response.headers.get("Retry-After"), seconds)

    def breakers(self) -> dict[str, Any]:
        """Return the status of every breaker of the gateway, by name."""
        response = self._session.get(f"{self._gateway}/api/v1/circuit-breaker/status", timeout=TIMEOUT_SECONDS)
        response.raise_for_status()
        return dict(response.json()["breakers"])

    def market_data(self) -> dict[str, Any]:
        """Return the status of the breaker in front of market data."""
        return dict(self.breakers()["market-data"])

    def simulate(self, *, failure_rate: float, is_healthy: bool = True) -> None:
        """Set the simulated faults of market data."""
        response = self._session.post(
            f"{self._market_data}/api/v1/simulate/failure",
            json={"failure_rate": failure_rate, "is_healthy": is_healthy},
            headers={"Authorization": f"Bearer {token}"} if (token := os.environ.get("CB_ADMIN_TOKEN")) else None,
            timeout=TIMEOUT_SECONDS,
        )
        response.raise_for_status()
