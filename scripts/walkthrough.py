"""The four phases of a circuit breaker's life, each played and checked on the running platform."""

import secrets
from collections.abc import Callable
from statistics import median

import requests

from .client import Answer, Client
from .recorder import Camera
from .screen import Screen, ask

NORMAL_TRADES = 5
FAILING_TRADES = 10
REJECTED_TRADES = 5
RECOVERED_TRADES = 3
#: more failures than any sensible configuration needs to open
MAX_TRADES = 50
#: more looks than any recovery needs, with the open time between them
MAX_LOOKS = 20


class PhaseError(Exception):
    """A phase did not behave; the message says what was seen instead."""


class Walkthrough:
    """Plays the phases in order. Each leaves the platform as the next one needs it."""

    def __init__(self, gateway: str, market_data: str) -> None:
        # A new user each time: demo cash does not run out.
        user = f"demo-{secrets.token_hex(4)}"
        self._client = Client(gateway, market_data, user)
        # It asks from a thread of its own.
        self._screen = Screen(Client(gateway, market_data, user))
        self._page = f"{gateway}/dashboard"
        self._normal: float = 0.0  # seconds of a normal trade

    def play(self, camera: Camera, *, pauses: bool) -> bool:
        """Return whether every phase behaved. With pauses, a person says when the next one may begin."""
        phases: list[tuple[str, str, Callable[[], str]]] = [
            ("normal operation", "Market data is well. Trades pass through its CLOSED circuit.", self.normal),
            ("failures accumulate", "Market data now fails 70 % of its requests.", self.failures),
            ("open, failing fast", "Market data is now down altogether.", self.open),
            ("recovery", "Market data is well again. The circuit finds out by itself.", self.recovery),
        ]
        behaved: list[bool] = []
        self._screen.console.print(f"Watch it live: {self._page}")
        try:
            self._begin()
            for number, (title, story, phase) in enumerate(phases, 1):
                if pauses and behaved:
                    ask(f"Next: {title}. Ready?")
                behaved.append(self._play(f"{number} of {len(phases)}: {title}", story, phase))
                if picture := camera(f"{number} {title}"):
                    self._screen.console.print(f"  picture: {picture}", soft_wrap=True)
        finally:
            self._client.simulate(failure_rate=0.0)
        self._screen.verdict(all(behaved), f"{sum(behaved)} of {len(phases)} phases behaved")
        return all(behaved)

    def normal(self) -> str:
        answers = self._trades(NORMAL_TRADES)
        expect(all(answer.filled for answer in answers), "a trade was not filled although everything is well")
        self._expect_state("CLOSED")
        self._normal = median(answer.seconds for answer in answers)
        return f"{len(answers)} trades filled, {_ms(self._normal)} each; the circuit is CLOSED"

    def failures(self) -> str:
        self._client.simulate(failure_rate=0.7)
        before = self._client.market_data()["totals"]["failures"]
        answers = self._trades(FAILING_TRADES)
        failed = sum(not answer.filled and not answer.rejected for answer in answers)
        breaker = self._client.market_data()
        counted = breaker["totals"]["failures"] - before
        expect(failed > 0, f"none of {len(answers)} trades failed")
        expect(counted >= failed, f"{failed} trades failed, but the breaker counted {counted} failures")
        return f"{failed} of {len(answers)} trades failed and were counted; {breaker['why']}"

    def open(self) -> str:
        self._client.simulate(failure_rate=1.0, is_healthy=False)
        self._trade_until("OPEN")
        before = self._client.market_data()["totals"]
        answers = self._trades(REJECTED_TRADES)
        after = self._client.market_data()["totals"]
        expect(all(answer.rejected for answer in answers), "an OPEN circuit let a trade through")
        expect(all(int(answer.retry_after or 0) >= 1 for answer in answers), "a rejection came without Retry-After")
        expect(after["requests"] == before["requests"], "market data was asked while the circuit was OPEN")
        rejected = median(answer.seconds for answer in answers)
        expect(rejected < self._normal, f"a rejected trade takes {_ms(rejected)}, a normal one {_ms(self._normal)}")
        return f"a rejected trade takes {_ms(rejected)}, a normal one {_ms(self._normal)}; market data is left in peace"

    def recovery(self) -> str:
        self._client.simulate(failure_rate=0.0)
        self._wait_until_closed("the circuit stays OPEN until its timeout is over")
        answers = self._trades(RECOVERED_TRADES)
        expect(all(answer.filled for answer in answers), "a trade was not filled although market data is well")
        return f"HALF_OPEN let health checks through; the circuit is CLOSED again, {len(answers)} trades were filled"

    def _begin(self) -> None:
        """Heal what an earlier visitor left broken."""
        self._client.simulate(failure_rate=0.0)
        if "market-data" in self._client.breakers() and self._client.market_data()["state"] != "CLOSED":
            self._wait_until_closed("the circuit is still open from earlier")

    def _play(self, title: str, story: str, phase: Callable[[], str]) -> bool:
        try:
            with self._screen.phase(title, story):
                told = phase()
        except (PhaseError, requests.RequestException) as error:
            self._screen.verdict(False, str(error))
            return False
        self._screen.verdict(True, told)
        return True

    def _trades(self, count: int) -> list[Answer]:
        answers = []
        for number in range(1, count + 1):
            answers.append(self._client.trade())
            self._screen.trade(number, answers[-1])
        return answers

    def _trade_until(self, state: str) -> list[Answer]:
        """Trade until the circuit has the state. Raises PhaseError if it never does."""
        answers: list[Answer] = []
        while self._client.market_data()["state"] != state:
            expect(len(answers) < MAX_TRADES, f"after {MAX_TRADES} trades the circuit is not {state}")
            answers += [self._client.trade()]
            self._screen.trade(len(answers), answers[-1])
        return answers

    def _expect_state(self, state: str) -> None:
        seen = self._client.market_data()["state"]
        expect(seen == state, f"the circuit is {seen}, not {state}")

    def _wait_until_closed(self, why: str) -> None:
        """Let the gateway's health checks close the circuit: no trade is needed. Raises PhaseError if they do not."""
        for _ in range(MAX_LOOKS):
            breaker = self._client.market_data()
            if breaker["state"] == "CLOSED":
                return
            # In HALF_OPEN it is over any moment, and at the latest when `retry_after_seconds` says.
            left = float(breaker["retry_after_seconds"] or 0.0) if breaker["state"] == "OPEN" else 0.0
            self._screen.wait(left + 0.2, why)
        raise PhaseError("health checks do not close the circuit although market data is well")


def expect(behaved: bool, otherwise: str) -> None:
    """Raise PhaseError, with what was seen instead, unless the platform behaved."""
    if not behaved:
        raise PhaseError(otherwise)


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"
