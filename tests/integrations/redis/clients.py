"""Guarded clients of redis-py for tests, synchronous and asynchronous, and what was counted of them."""

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

import redis.asyncio
from redis.backoff import NoBackoff
from redis.retry import Retry

from cb import BreakerConfig, CircuitBreaker

CONFIG = BreakerConfig(
    failure_threshold=3, timeout=0.2, timeout_jitter=0, success_threshold=1, slow_call_duration=0.2, call_timeout=5
)
MODULES = {"sync": redis, "async": redis.asyncio}


class Client:
    """A client that a test uses in the same way, whether it is asynchronous or not."""

    def __init__(self, kind: str, port: int, **options: Any) -> None:
        self._runner = asyncio.Runner()
        options = {"socket_timeout": 5, "retry": Retry(NoBackoff(), 0), **options}
        if kind == "async":
            options["retry"] = redis.asyncio.retry.Retry(NoBackoff(), 0)
        self.kind = kind
        self.raw: Any = MODULES[kind].Redis(port=port, **options)
        self._closing: list[Any] = [self.raw]

    def do(self, work: Callable[[Any], Any]) -> Any:
        """Return work(client), awaited if need be."""
        return self._runner.run(self._await(work))

    async def _await(self, work: Callable[[Any], Any]) -> Any:
        result = work(self.raw)
        return await result if inspect.isawaitable(result) else result

    def give_up_after(self, seconds: float) -> None:
        """Set the timeout of the sockets that are opened from now on."""
        self.raw.connection_pool.connection_kwargs["socket_timeout"] = seconds

    def subscription(self) -> Any:
        made = self.raw.pubsub()
        self._closing.insert(0, made)
        return made

    def end(self, made: Any) -> None:
        self.do(lambda _: (getattr(made, "aclose", None) or made.close)())  # before redis 5.0.1 there is no `aclose`

    def close(self) -> None:
        for each in self._closing:
            self.end(each)
        self._runner.close()


def counted(breaker: CircuitBreaker) -> tuple[int, int, int]:
    """Return the numbers of successes, failures and calls that are neither."""
    snapshot = breaker.snapshot()
    assert snapshot.in_flight == 0
    return snapshot.totals.successes, snapshot.totals.failures, snapshot.totals.neutral
