"""The walk-through: four phases of a circuit breaker, played and checked on the running platform."""

import secrets
from collections.abc import Callable
from statistics import median

import requests

from .client import Client, TradeResponse
from .recorder import Camera
from .screen import Screen, confirm

NORMAL_TRADES = 5
FAILING_TRADES = 10
REJECTED_TRADES = 5
RECOVERED_TRADES = 3
#: more failures than any reasonable configuration needs to open
MAX_TRADES = 50
#: more polls than any recovery needs, with the open time between them
MAX_POLLS = 20


class PhaseError(Exception):
    """A phase failed; the message has the observed behaviour."""


class Walkthrough:
    """Plays the phases in order. Each phase depends on the state that the previous one leaves."""

    def __init__(self, gateway: str, market_data: str) -> None:
        # A new user each time, so that the cash suffices.
        user = f"demo-{secrets.token_hex(4)}"
        self._client = Client(gateway, market_data, user)
        # The screen polls in a thread of its own.
        self._screen = Screen(Client(gateway, market_data, user))
        self._page = f"{gateway}/dashboard"
        self._normal: float = 0.0  # seconds per trade

    def play(self, camera: Camera, *, pauses: bool) -> bool:
        """Return True if every phase passed. With `pauses`, wait for confirmation before each phase."""
        phases: list[tuple[str, str, Callable[[], str]]] = [
            ("normal operation", "Market data is healthy. Trades pass through its CLOSED circuit.", self.normal),
            ("failures accumulate", "Market data now fails 70 % of its requests.", self.failures),
            ("open, failing fast", "Market data is down now.", self.open),
            ("recovery", "Market data is healthy again. Health checks close the circuit.", self.recovery),
        ]
        passed: list[bool] = []
        self._screen.console.print(f"Watch it live: {self._page}")
        try:
            self._begin()
            for number, (title, description, phase) in enumerate(phases, 1):
                if pauses and passed:
                    confirm(f"Next: {title}. Ready?")
                passed.append(self._play(f"{number} of {len(phases)}: {title}", description, phase))
                if picture := camera(f"{number} {title}"):
                    self._screen.console.print(f"  picture: {picture}", soft_wrap=True)
        finally:
            self._client.simulate(failure_rate=0.0)
        self._screen.result(all(passed), f"{sum(passed)} of {len(phases)} phases passed")
        return all(passed)

    def normal(self) -> str:
        responses = self._trades(NORMAL_TRADES)
        expect(
            all(response.filled for response in responses), "a trade was not filled although all services are healthy"
        )
        self._expect_state("CLOSED")
        self._normal = median(response.seconds for response in responses)
        return f"{len(responses)} trades filled, {_ms(self._normal)} each; the circuit is CLOSED"

    def failures(self) -> str:
        self._client.simulate(failure_rate=0.7)
        before = self._client.market_data()["totals"]["failures"]
        responses = self._trades(FAILING_TRADES)
        failed = sum(not response.filled and not response.rejected for response in responses)
        breaker = self._client.market_data()
        counted = breaker["totals"]["failures"] - before
        expect(failed > 0, f"none of {len(responses)} trades failed")
        expect(counted >= failed, f"{failed} trades failed, but the breaker counted {counted} failures")
        return f"{failed} of {len(responses)} trades failed and were counted; {breaker['why']}"

    def open(self) -> str:
        self._client.simulate(failure_rate=1.0, is_healthy=False)
        self._trade_until("OPEN")
        before = self._client.market_data()["totals"]
        responses = self._trades(REJECTED_TRADES)
        after = self._client.market_data()["totals"]
        expect(all(response.rejected for response in responses), "an OPEN circuit let a trade through")
        expect(
            all(int(response.retry_after or 0) >= 1 for response in responses), "a rejection came without Retry-After"
        )
        expect(after["requests"] == before["requests"], "market data was called while the circuit was OPEN")
        rejected = median(response.seconds for response in responses)
        expect(rejected < self._normal, f"a rejected trade takes {_ms(rejected)}, a normal one {_ms(self._normal)}")
        return (
            f"a rejected trade takes {_ms(rejected)}, a normal one {_ms(self._normal)}; market data receives no calls"
        )

    def recovery(self) -> str:
        self._client.simulate(failure_rate=0.0)
        self._wait_until_closed("the circuit stays OPEN until its timeout expires")
        responses = self._trades(RECOVERED_TRADES)
        expect(all(response.filled for response in responses), "a trade was not filled although market data is healthy")
        return f"HALF_OPEN let health checks through; the circuit is CLOSED again, {len(responses)} trades were filled"

    def _begin(self) -> None:
        """Reset faults and an open circuit from an earlier run."""
        self._client.simulate(failure_rate=0.0)
        if "market-data" in self._client.breakers() and self._client.market_data()["state"] != "CLOSED":
            self._wait_until_closed("the circuit is still open from an earlier run")

    def _play(self, title: str, description: str, phase: Callable[[], str]) -> bool:
        try:
            with self._screen.phase(title, description):
                summary = phase()
        except (PhaseError, requests.RequestException) as error:
            self._screen.result(False, str(error))
            return False
        self._screen.result(True, summary)
        return True

    def _trades(self, count: int) -> list[TradeResponse]:
        responses = []
        for number in range(1, count + 1):
            responses.append(self._client.trade())
            self._screen.trade(number, responses[-1])
        return responses

    def _trade_until(self, state: str) -> list[TradeResponse]:
        """Trade until the circuit has the state. Raises PhaseError after too many trades."""
        responses: list[TradeResponse] = []
        while self._client.market_data()["state"] != state:
            expect(len(responses) < MAX_TRADES, f"after {MAX_TRADES} trades the circuit is not {state}")
            responses += [self._client.trade()]
            self._screen.trade(len(responses), responses[-1])
        return responses

    def _expect_state(self, state: str) -> None:
        actual = self._client.market_data()["state"]
        expect(actual == state, f"the circuit is {actual}, not {state}")

    def _wait_until_closed(self, reason: str) -> None:
        """Wait until the gateway's health checks close the circuit. Raises PhaseError after too many polls."""
        for _ in range(MAX_POLLS):
            breaker = self._client.market_data()
            if breaker["state"] == "CLOSED":
                return
            # In HALF_OPEN it closes any moment.
            left = float(breaker["retry_after_seconds"] or 0.0) if breaker["state"] == "OPEN" else 0.0
            self._screen.wait(left + 0.2, reason)
        raise PhaseError("health checks do not close the circuit although market data is healthy")


def expect(condition: bool, observed: str) -> None:
    """Raise PhaseError with the observed behaviour unless the condition is true."""
    if not condition:
        raise PhaseError(observed)


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"
