"""What the walk-through asks of the running services."""

import os
import time
from dataclasses import dataclass
from typing import Any

import requests

PATIENCE = 30.0


@dataclass(frozen=True)
class Answer:
    """What a trade was answered, and after how many seconds."""

    status: int
    body: dict[str, Any]
    retry_after: str | None
    seconds: float

    @property
    def filled(self) -> bool:
        return self.status == 201

    @property
    def rejected(self) -> bool:
        """Whether the circuit refused it, so that market data was not asked."""
        return self.status == 503 and self.body.get("code") == "circuit-open"


class Client:
    """Speaks to the gateway, and to the market data service to make it fail."""

    def __init__(self, gateway: str, market_data: str, user: str) -> None:
        self._gateway = gateway
        self._market_data = market_data
        self._user = user
        self._session = requests.Session()
        self._session.trust_env = False

    def trade(self) -> Answer:
        """Buy one share of AAPL."""
        order = {"userId": self._user, "symbol": "AAPL", "quantity": 1, "orderType": "BUY", "price": 150.00}
        start = time.perf_counter()
        response = self._session.post(f"{self._gateway}/api/v1/trades", json=order, timeout=PATIENCE)
        seconds = time.perf_counter() - start
        return Answer(response.status_code, response.json(), response.headers.get("Retry-After"), seconds)

    def breakers(self) -> dict[str, Any]:
        """Return the status of every breaker of the gateway, by name."""
        response = self._session.get(f"{self._gateway}/api/v1/circuit-breaker/status", timeout=PATIENCE)
        response.raise_for_status()
        return dict(response.json()["breakers"])

    def market_data(self) -> dict[str, Any]:
        """Return the status of the breaker in front of market data."""
        return dict(self.breakers()["market-data"])

    def simulate(self, *, failure_rate: float, is_healthy: bool = True) -> None:
        """Make market data fail, or heal it."""
        response = self._session.post(
            f"{self._market_data}/api/v1/simulate/failure",
            json={"failure_rate": failure_rate, "is_healthy": is_healthy},
            headers={"Authorization": f"Bearer {token}"} if (token := os.environ.get("CB_ADMIN_TOKEN")) else None,
            timeout=PATIENCE,
        )
        response.raise_for_status()
