"""Clients of requests, httpx and aiohttp with breakers, behind one interface."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import aiohttp
import httpx
import requests
import trio

from cb import Registry
from cb.http import (
    AsyncCircuitBreakerTransport,
    BodyTooLargeError,
    CircuitBreakerAdapter,
    CircuitBreakerTransport,
    circuit_breaker_middleware,
)

#: bytes of a part of a body
PART = 4096


class Streamed:
    """A response whose body has not been read."""

    def __init__(self, status: int, read: Callable[[], bytes], part: Callable[[], bytes], close: Callable[[], Any]):
        self.status, self.read, self.part, self.close = status, read, part, close


class Client:
    """A client of one library. Each test creates one by `open`."""

    name = ""
    #: root of the library's errors
    errors: type[Exception] = Exception

    @contextmanager
    def open(self, guard: Any, name: Any = None, **options: Any) -> Iterator["Client"]:
        self._connect(guard, name, options)
        try:
            yield self
        finally:
            self._close()

    def _connect(self, guard: Any, name: Any, options: dict[str, Any]) -> None:
        raise NotImplementedError

    def _close(self) -> None:
        raise NotImplementedError

    def get(self, url: str, **options: Any) -> int:
        """Return the status of a response whose body has been read."""
        response = self.stream(url, **options)
        try:
            response.read()
        finally:
            response.close()
        return response.status

    def stream(self, url: str, **options: Any) -> Streamed:
        """Return a response whose body has not been read."""
        raise NotImplementedError

    def post(self, url: str, parts: Iterator[bytes]) -> int:
        """Send a body that a generator yields. Return the status."""
        raise NotImplementedError


class Requests(Client):
    name = "requests"
    errors = requests.RequestException

    def _connect(self, guard: Any, name: Any, options: dict[str, Any]) -> None:
        if "pool" in options:
            options |= {"pool_maxsize": options.pop("pool"), "pool_block": True}
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.mount("http://", CircuitBreakerAdapter(guard, name, **options))

    def _close(self) -> None:
        self._session.close()

    def stream(self, url: str, **options: Any) -> Streamed:
        response = self._session.get(url, stream=True, allow_redirects=False, **options)
        parts = response.iter_content(PART)
        return Streamed(response.status_code, lambda: b"".join(parts), lambda: next(parts), response.close)

    def post(self, url: str, parts: Iterator[bytes]) -> int:
        return self._session.post(url, data=parts).status_code


class Httpx(Client):
    name = "httpx"
    errors = httpx.HTTPError

    def _connect(self, guard: Any, name: Any, options: dict[str, Any]) -> None:
        self._client = httpx.Client(transport=CircuitBreakerTransport(guard, name, **_with_limits(options)))

    def _close(self) -> None:
        self._client.close()

    def stream(self, url: str, **options: Any) -> Streamed:
        response = self._client.send(self._client.build_request("GET", url, **options), stream=True)
        parts = response.iter_bytes(PART)
        return Streamed(response.status_code, lambda: b"".join(parts), lambda: next(parts), response.close)

    def post(self, url: str, parts: Iterator[bytes]) -> int:
        return self._client.post(url, content=parts).status_code


class AsyncHttpx(Client):
    """httpx under asyncio. Each step runs on the same loop."""

    name = "httpx, asyncio"
    errors = httpx.HTTPError

    def _connect(self, guard: Any, name: Any, options: dict[str, Any]) -> None:
        self._runner = asyncio.Runner()
        self._client = httpx.AsyncClient(transport=AsyncCircuitBreakerTransport(guard, name, **_with_limits(options)))

    def _close(self) -> None:
        self._run(self._client.aclose)
        self._runner.close()

    def _run(self, step: Callable[..., Any], *args: Any) -> Any:
        async def run() -> Any:
            return await step(*args)

        return self._runner.run(run())

    def stream(self, url: str, **options: Any) -> Streamed:
        async def send() -> httpx.Response:
            return await self._client.send(self._client.build_request("GET", url, **options), stream=True)

        response: httpx.Response = self._run(send)
        parts = response.aiter_bytes(PART)

        async def rest() -> bytes:
            return b"".join([part async for part in parts])

        return Streamed(
            response.status_code,
            lambda: self._run(rest),
            lambda: self._run(parts.__anext__),
            lambda: self._run(response.aclose),
        )

    def post(self, url: str, parts: Iterator[bytes]) -> int:
        async def send() -> int:
            return (await self._client.post(url, content=_asynchronous(parts))).status_code

        status: int = self._run(send)
        return status


class Aiohttp(Client):
    name = "aiohttp"
    errors = aiohttp.ClientError

    def _connect(self, guard: Any, name: Any, options: dict[str, Any]) -> None:
        connections = options.pop("pool", 100)
        middleware = circuit_breaker_middleware(guard, name, **options)
        self._runner = asyncio.Runner()

        async def connect() -> aiohttp.ClientSession:
            return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=connections), middlewares=(middleware,))

        self._session: aiohttp.ClientSession = self._run(connect)

    def _close(self) -> None:
        self._run(self._session.close)
        self._runner.close()

    def _run(self, step: Callable[..., Any], *args: Any) -> Any:
        async def run() -> Any:
            return await step(*args)

        return self._runner.run(run())

    def stream(self, url: str, **options: Any) -> Streamed:
        if "timeout" in options:
            options["timeout"] = aiohttp.ClientTimeout(options["timeout"])

        async def send() -> aiohttp.ClientResponse:
            return await self._session.get(url, allow_redirects=False, **options)

        async def close() -> None:
            response.release()
            await asyncio.sleep(0)

        response: aiohttp.ClientResponse = self._run(send)
        content = response.content
        return Streamed(
            response.status,
            lambda: self._run(content.read),
            lambda: self._run(content.readexactly, PART),
            lambda: self._run(close),
        )

    def post(self, url: str, parts: Iterator[bytes]) -> int:
        async def send() -> int:
            async with self._session.post(url, data=_asynchronous(parts)) as response:
                return response.status

        status: int = self._run(send)
        return status


class TrioHttpx(Client):
    """httpx under trio. Each request has a client of its own."""

    name = "httpx, trio"
    errors = httpx.HTTPError

    def _connect(self, guard: Any, name: Any, options: dict[str, Any]) -> None:
        self._transport = AsyncCircuitBreakerTransport(guard, name, **_with_limits(options))

    def _close(self) -> None:
        pass

    def get(self, url: str, **options: Any) -> int:
        async def get() -> int:
            async with httpx.AsyncClient(transport=self._transport) as client:
                return (await client.get(url, **options)).status_code

        return trio.run(get)


def _with_limits(options: dict[str, Any]) -> dict[str, Any]:
    if "pool" in options:
        options["limits"] = httpx.Limits(max_connections=options.pop("pool"))
    return options


async def _asynchronous(parts: Iterator[bytes]) -> Any:
    for part in parts:
        yield part


#: those that read a response in parts
CLIENTS = [Requests, Httpx, AsyncHttpx, Aiohttp]
ALL_CLIENTS = [*CLIENTS, TrioHttpx]


def raised(error: Exception) -> str:
    """Return the name of an error that the documentation has: bodies that are too large have one for each library."""
    return "BodyTooLargeError" if isinstance(error, BodyTooLargeError) else type(error).__name__


def counts(registry: Registry, name: str = "d") -> tuple[int, int, int]:
    """Return successes, failures and neutral outcomes of a breaker."""
    totals = registry.get(name).snapshot().totals
    return totals.successes, totals.failures, totals.neutral
