"""Cost of a breaker for a request of httpx on loopback, with the transport and without it, synchronous and not."""

import asyncio
import ssl
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import httpx

from cb import Ledger, Registry
from cb.http import AsyncCircuitBreakerTransport, CircuitBreakerTransport

from .http import server
from .result import Check, Result

ROUNDS, CALLS = 100, 50
Rate = Callable[[], float]


def transport() -> Result:
    """Measure requests of one thread or task with keep-alive, with the clients in turns."""
    with tempfile.TemporaryDirectory() as directory, server(Path(directory)) as url:
        registry = Registry(ledger=Ledger.in_file(Path(directory) / "l"))
        context = ssl.create_default_context()  # creating one takes longer than a round
        measured: dict[str, Rate] = {
            "httpx": lambda: _rate(httpx.HTTPTransport(verify=context), url),
            "with the transport": lambda: _rate(CircuitBreakerTransport(registry, verify=context), url),
            "httpx, async": lambda: asyncio.run(_async_rate(httpx.AsyncHTTPTransport(verify=context), url)),
            "with the async transport": lambda: asyncio.run(
                _async_rate(AsyncCircuitBreakerTransport(registry, verify=context), url)
            ),
        }
        rates = _in_turns(measured)
    rows = {name: (statistics.median(values),) for name, values in rates.items()}
    checks = [
        _check(rates, "with the transport", "httpx"),
        _check(rates, "with the async transport", "httpx, async"),
    ]
    return Result("client.get of httpx on loopback", ("requests a second",), rows, checks)


def _in_turns(measured: dict[str, Rate]) -> dict[str, list[float]]:
    """Return the rates of all rounds. The order changes: it makes a difference of 2 % and more."""
    rates: dict[str, list[float]] = {name: [] for name in measured}
    names = list(measured)
    for number in range(ROUNDS):
        for name in names if number % 2 else reversed(names):
            rates[name].append(measured[name]())
    return rates


def _check(rates: dict[str, list[float]], ours: str, plain: str) -> Check:
    # Neighbours in time are compared: other programs disturb both alike.
    ratio = statistics.median(one / other for one, other in zip(rates[ours], rates[plain], strict=True))
    return Check(f"{ours} / {plain}", ratio, 0.97, at_most=False)


def _rate(inside: httpx.BaseTransport, url: str) -> float:
    with httpx.Client(transport=inside) as client:
        get = partial(client.get, url)
        get()
        begin = time.perf_counter()
        for _ in range(CALLS):
            get()
        return CALLS / (time.perf_counter() - begin)


async def _async_rate(inside: httpx.AsyncBaseTransport, url: str) -> float:
    async with httpx.AsyncClient(transport=inside) as client:
        get = partial(client.get, url)
        await get()
        begin = time.perf_counter()
        for _ in range(CALLS):
            await get()
        return CALLS / (time.perf_counter() - begin)
