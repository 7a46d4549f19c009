"""Calls whose types `make lint` checks. The file is not run."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, assert_type

from cb import Bulkhead, Call, CircuitBreaker, Guard, Policy
from cb.http import HTTPClient, Json


@dataclass(frozen=True)
class Quote:
    price: int


def check(answer: Json) -> Quote:
    return Quote(answer["price"])


def stale(error: Exception) -> Quote:
    raise error


def of_the_client(client: HTTPClient) -> None:
    assert_type(client.get_json("/a"), dict[str, Any])
    assert_type(client.post_json("/a", {}, check=check), Quote)
    assert_type(client.get_json("/a", check=check, fallback=None), Quote | None)
    assert_type(client.get_json("/a", check=check, fallback=stale), Quote)
    assert_type(client.get_json("/a", check=check, fallback=Quote(0)), Quote)
    assert_type(client.get_json("/a", check=check, fallback=lambda error: f"{error}"), Quote | str)
    assert_type(client.post_json("/a", {}, fallback={}), dict[str, Any])


def of_the_decorator(breaker: CircuitBreaker) -> None:
    @breaker
    def plain(symbol: str, *, at: int = 0) -> Quote:
        return Quote(at)

    @breaker(fallback=None)
    def nothing(symbol: str, *, at: int = 0) -> Quote:
        return Quote(at)

    @breaker(fallback=[])
    def empty(symbol: str) -> list[int]:
        return [len(symbol)]

    @breaker(fallback=lambda error: f"{error}")
    def told(symbol: str) -> int:
        return len(symbol)

    assert_type(plain("AAPL", at=1), Quote)
    assert_type(nothing("AAPL", at=1), Quote | None)
    assert_type(told("AAPL"), int | str)
    found: list[int] = empty("AAPL")
    plain(found)  # type: ignore[arg-type]  # arguments are checked as ever
    breaker("text")  # type: ignore[call-overload]  # it is no function


async def of_coroutines(breaker: CircuitBreaker, bulkhead: Bulkhead, policy: Policy) -> None:
    @breaker
    async def plain(symbol: str, *, at: int = 0) -> Quote:
        return Quote(at)

    @breaker(fallback=None)
    async def nothing(symbol: str) -> Quote:
        return Quote(len(symbol))

    async def other(error: Exception) -> str:
        return f"{error}"

    @breaker(fallback=other)
    async def told(symbol: str) -> int:
        return len(symbol)

    @policy
    async def items(symbol: str) -> AsyncIterator[int]:
        yield len(symbol)

    assert_type(await plain("AAPL", at=1), Quote)
    assert_type(await nothing("AAPL"), Quote | None)
    assert_type(await told("AAPL"), int | str)
    assert_type([each async for each in items("AAPL")], list[int])
    guards: list[Guard] = [breaker, bulkhead, policy]
    for guard in guards:
        assert_type(await guard.acall(plain, "AAPL"), Quote)
        async with guard.guard() as call:
            assert_type(call, Call)
    assert_type(await breaker.acall(check, {}), Quote)
    async with breaker as outer, bulkhead as inner, policy as middle:
        assert_type((outer, inner, middle), tuple[Call, Call, Call])
    await breaker.acall(plain, 3)  # type: ignore[call-overload]  # arguments are checked as ever


def of_guards(breaker: CircuitBreaker, bulkhead: Bulkhead) -> None:
    guards: list[Guard] = [breaker, bulkhead]
    for guard in guards:
        assert_type(guard.begin(), Call)
        assert_type(guard.call(check, {}), Quote)
        with guard.guard() as call:
            assert_type(call, Call)
    with breaker as outer, bulkhead as inner:
        assert_type((outer, inner), tuple[Call, Call])


def of_operators(breaker: CircuitBreaker) -> None:
    breaker.control.force_open(reason="migration", duration=timedelta(minutes=5))
    breaker.control.configure(timeout=10, failure_threshold=None, reason="trial")
    breaker.control.configure(timeout="10s")  # type: ignore[arg-type]  # text is for settings files
    breaker.control.configure(retries=3)  # type: ignore[call-arg]  # it is no setting
