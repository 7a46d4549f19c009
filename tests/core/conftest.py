"""A breaker on a clock that only moves when told, on both kinds of ledger."""

from collections.abc import Callable
from pathlib import Path

import pytest

from cb import BreakerConfig, CircuitBreaker, Ledger, StateChange

SECOND = 1_000_000_000


class FakeClock:
    """Monotonic nanoseconds that stand still."""

    def __init__(self) -> None:
        self.now = 1_000 * SECOND

    def __call__(self) -> int:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += round(seconds * SECOND)


class Dependency:
    """Something to call: does what it is told, and counts the calls that reach it."""

    def __init__(self, breaker: CircuitBreaker, clock: FakeClock) -> None:
        self.breaker = breaker
        self.clock = clock
        self.reached = 0

    def answer(self, seconds: float = 0) -> str:
        return self.breaker.call(self._work, seconds, None)

    def fail(self, error: BaseException | None = None, seconds: float = 0) -> None:
        with pytest.raises(type(error) if error else ConnectionError):
            self.breaker.call(self._work, seconds, error or ConnectionError("refused"))

    def _work(self, seconds: float, error: BaseException | None) -> str:
        self.reached += 1
        self.clock.advance(seconds)
        if error:
            raise error
        return "answer"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(params=["memory", "file"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Ledger:
    return Ledger.in_memory() if request.param == "memory" else Ledger.in_file(tmp_path / "ledger")


@pytest.fixture
def changes() -> list[StateChange]:
    return []


@pytest.fixture
def make(ledger: Ledger, clock: FakeClock, changes: list[StateChange]) -> Callable[..., Dependency]:
    """Return a function that makes a dependency behind a breaker with the given settings."""

    def dependency(
        name: str = "dependency", ignored: tuple[type[BaseException], ...] = (), **settings: object
    ) -> Dependency:
        config = BreakerConfig.parse({"timeout_jitter": 0, **settings})
        breaker = CircuitBreaker(name, config, ledger=ledger, ignored=ignored, listeners=[changes.append], clock=clock)
        return Dependency(breaker, clock)

    return dependency
