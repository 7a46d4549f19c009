"""A middleware that puts breakers before the requests of an `aiohttp.ClientSession`."""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from typing import Any

import aiohttp

from cb import Call, Duration, Guard, Registry, RejectedError
from cb.guard import begin_async

from .aiohttp_body import observe_body
from .aiohttp_errors import described, is_caller_error, late, rejection
from .exchange import Exchange
from .guarding import Guarding
from .observer import observe
from .origins import origin_name
from .responses import FAILURE_STATUSES, retry_after
from .timeouts import TIMEOUT

Handler = Callable[[aiohttp.ClientRequest], Awaitable[aiohttp.ClientResponse]]
#: methods whose requests aiohttp repeats once after a connection was closed
_REPEATED = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
#: timer of the request of this task whose first attempt has failed so that aiohttp repeats it
_repeating: ContextVar[object] = ContextVar("cb.http.repeating", default=None)


def circuit_breaker_middleware(
    guard: Registry | Guard,
    name: str | Callable[[aiohttp.ClientRequest], str] | None = None,
    *,
    timeout: Duration | None = TIMEOUT,
    max_body_bytes: int | None = None,
    failure_statuses: Collection[int] = FAILURE_STATUSES,
    limit: int | None = None,
    wait: Duration = 0.0,
) -> Callable[[aiohttp.ClientRequest, Handler], Awaitable[aiohttp.ClientResponse]]:
    """Return a middleware: `aiohttp.ClientSession(middlewares=(circuit_breaker_middleware(registry),))`.

    With a registry, each scheme, host and port has a breaker of its own, or `name` selects one. A response with one of
    the `failure_statuses` counts as a failure, and is returned. Any other response counts when its body has been
    received to its end, or closed: a body that is cut off or too slow is a failure. A request that cannot be sent
    counts as neither, and so does one that is cancelled, unless it was slow by then. A probe takes at most its
    breaker's `probe_timeout`. Each hop of a redirect is a request. Of a request that aiohttp repeats, because its
    connection was closed, the repetition counts.

    Args:
        guard: Registry of the breakers; or a breaker, a bulkhead, or a policy without retry, cache and fallback, for
            all requests. A task waits for a bulkhead without holding its loop.
        name: Name of the breaker in the registry, or a function of the request that returns it.
        timeout: Time limit for a request and its response, body included, in seconds or as a timedelta; None for no
            limit. The timeouts of aiohttp hold within it.
        max_body_bytes: Largest body of a response, in bytes after decompression; None for no limit. A longer one raises
            BodyTooLargeError, and counts as neither success nor failure.
        failure_statuses: Statuses that count as failures.
        limit: Number of requests that may run at once through each breaker, bodies included; None for no bulkhead.
        wait: Time to wait for a place in the bulkhead.

    Raises:
        ConfigError: A parameter is invalid, or `name` or `limit` is given for a guard that is no registry.
    """
    return _Middleware(
        Guarding(
            guard,
            name,
            timeout=timeout,
            max_body_bytes=max_body_bytes,
            failure_statuses=failure_statuses,
            limit=limit,
            wait=wait,
        )
    )


class _Middleware:
    def __init__(self, guarding: Guarding) -> None:
        self._guarding = guarding

    def __repr__(self) -> str:
        return f"<circuit_breaker_middleware of {self._guarding!r}>"

    async def __call__(self, request: aiohttp.ClientRequest, handler: Handler) -> aiohttp.ClientResponse:
        guarding, url = self._guarding, request.url
        guard = guarding.guard_of(request, _origin(url))
        try:
            call = await _begun_call(guard)
        except RejectedError as error:
            if (shown := rejection(error)) is error:
                raise
            raise shown from error
        observer = observe(guard, call, request.method, url, request.headers)
        limit = guarding.limit_of(guard, call)
        exchange = Exchange(call, observer, partial(_target, request), limit=limit, max_bytes=guarding.max_body_bytes)
        attempt = _Attempt(request, exchange)
        try:
            with observer:
                response = await attempt.send(handler)
        except BaseException as error:
            if (failed := attempt.failed(error)) is error:
                raise
            raise failed from failed.__cause__
        failure = response.status in guarding.failure_statuses
        exchange.received(
            response.status, failure=failure, retry_after=retry_after(response.headers) if failure else None
        )
        if response.status == 101:  # a protocol of its own, such as WebSocket
            exchange.end(None)
        else:
            observe_body(response, exchange, asyncio.get_running_loop(), request.proxy)
        return response


class _Attempt:
    """One request on its way to a response."""

    def __init__(self, request: aiohttp.ClientRequest, exchange: Exchange) -> None:
        self._request = request
        self._exchange = exchange
        self._scope = asyncio.timeout(exchange.limit)
        self._upload = _Upload.of(request, self)

    async def send(self, handler: Handler) -> aiohttp.ClientResponse:
        """Return the response. Raises TimeoutError at the deadline."""
        async with self._scope:
            return await handler(self._request)

    def pause(self) -> None:
        """Stop the time until `resume`."""
        self._exchange.pause()
        self._reschedule(None)

    def resume(self) -> None:
        """Continue: the task waits for the dependency again."""
        self._exchange.resume()
        if self._exchange.limit is not None:
            self._reschedule(asyncio.get_running_loop().time() + self._exchange.time_left())

    def _reschedule(self, at: float | None) -> None:
        if not self._scope.expired() and self._scope.when() != at:
            with suppress(RuntimeError):  # the response came before the end of the request
                self._scope.reschedule(at)

    def failed(self, error: BaseException) -> BaseException:
        """Count an error. Return it with a text."""
        request, exchange = self._request, self._exchange
        pool_is_full = request.response is None and _pool_is_full(request)
        if self._scope.expired() and type(error) is TimeoutError:
            shown = late(exchange, connected=request.response is not None, pool_is_full=pool_is_full)
            shown.__cause__ = error
        elif isinstance(error, asyncio.CancelledError) and getattr(request._timer, "_cancelled", False):  # noqa: SLF001 - of aiohttp
            # The timeout of aiohttp has cancelled the task, and becomes a TimeoutError outside of the middleware.
            exchange.end(described(TimeoutError(), exchange, request.proxy), is_callers=pool_is_full)
            return error
        else:
            shown = described(error, exchange, request.proxy)
        is_full = pool_is_full and isinstance(error, TimeoutError)
        is_upload = self._upload is not None and self._upload.failed
        exchange.end(shown, is_callers=is_full or is_upload or is_caller_error(error) or self._is_repeated(error))
        return shown

    def _is_repeated(self, error: BaseException) -> bool:
        """Return True if aiohttp repeats the request."""
        request = self._request
        if not isinstance(error, aiohttp.ClientOSError | aiohttp.ServerDisconnectedError):
            return False
        if isinstance(error, aiohttp.ClientConnectorError) or request.method not in _REPEATED:
            return False
        if not getattr(request.session, "_retry_connection", True) or _repeating.get() is request._timer:  # noqa: SLF001 - of aiohttp
            return False
        _repeating.set(request._timer)  # noqa: SLF001 - the same for both attempts
        return True


class _Upload:
    """The body of a request that is read while it is sent. The time of its reads does not count."""

    def __init__(self, parts: Any, attempt: _Attempt) -> None:
        self._parts = parts
        self._attempt = attempt
        #: True after the caller's generator has raised an exception
        self.failed = False

    @classmethod
    def of(cls, request: aiohttp.ClientRequest, attempt: _Attempt) -> "_Upload | None":
        """Observe the asynchronous iterable that a request sends. Return None if it sends none."""
        body = request.body
        if not isinstance(body, aiohttp.AsyncIterablePayload) or getattr(body, "_iter", None) is None:
            return None
        parts = body._iter  # noqa: SLF001 - aiohttp has made it of the iterable
        upload = cls(parts, attempt)
        body._iter = upload  # noqa: SLF001 - an iterator too
        return upload

    def __getattr__(self, name: str) -> Any:
        return getattr(self._parts, name)

    def __aiter__(self) -> "_Upload":
        return self

    async def __anext__(self) -> bytes:
        self._attempt.pause()
        try:
            part: bytes = await self._parts.__anext__()
        except StopAsyncIteration:
            raise
        except BaseException:
            self.failed = True
            raise
        finally:
            self._attempt.resume()
        return part


async def _begun_call(guard: Guard) -> Call:
    """Admit a call. A guard of another class is one of functions only."""
    return await begin_async(guard) if hasattr(guard, "_begin_async") else guard.begin()


def _origin(url: Any) -> str:
    """Return the name of the breaker of an origin. Raises InvalidUrlClientError for a host that none can have."""
    try:
        return origin_name(url.scheme, url.raw_host or "", url.port)
    except ValueError as error:
        raise aiohttp.InvalidUrlClientError(url, str(error)) from error


def _target(request: aiohttp.ClientRequest) -> str:
    return f"{request.method} {request.url.origin()}"


def _pool_is_full(request: aiohttp.ClientRequest) -> bool:
    """Return True if other requests hold all connections that a request may use."""
    available = getattr(request.session.connector, "_available_connections", None)
    return available is not None and available(request.connection_key) <= 0
