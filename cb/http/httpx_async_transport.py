"""A transport of httpx that puts breakers before the requests of an `httpx.AsyncClient`, under asyncio or trio."""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from cb import Call, Duration, Guard, Registry, RejectedError
from cb.background.event_loop import module_of_task

from .exchange import Exchange
from .httpx_errors import rejection
from .httpx_requests import GuardedBody, GuardedTransport, origin_of, sent_as
from .observer import UNOBSERVED
from .responses import FAILURE_STATUSES
from .timeouts import TIMEOUT

R = TypeVar("R")


class AsyncCircuitBreakerTransport(GuardedTransport, httpx.AsyncBaseTransport):
    """A transport that guards requests: `httpx.AsyncClient(transport=AsyncCircuitBreakerTransport(registry))`.

    It counts as `CircuitBreakerTransport` does, and shares its circuits. A request that is cancelled counts as neither
    success nor failure, unless it was slow by then.

    Args:
        guard: Registry of the breakers; or a breaker, a bulkhead, or a policy without retry, cache and fallback, for
            all requests. A task waits for a bulkhead without holding its loop.
        name: Name of the breaker in the registry, or a function of the request that returns it.
        transport: Transport that sends the requests; by default an `httpx.AsyncHTTPTransport`.
        timeout: Time limit for a request and its response, body included, in seconds or as a timedelta; None for no
            limit. The timeouts of httpx hold within it.
        max_body_bytes: Largest body of a response, in bytes after decompression; None for no limit. A longer one raises
            BodyTooLargeError, and counts as neither success nor failure.
        failure_statuses: Statuses that count as failures.
        limit: Number of requests that may run at once through each breaker, bodies included; None for no bulkhead.
        wait: Time to wait for a place in the bulkhead.
        options: Options of `httpx.AsyncHTTPTransport`, such as `verify`, `http2`, `limits` and `proxy`: a client that
            is given a transport does not use its own.

    Raises:
        ConfigError: A parameter is invalid, `name` or `limit` is given for a guard that is no registry, or `options`
            with a transport.
    """

    _transport: httpx.AsyncBaseTransport

    def __init__(
        self,
        guard: Registry | Guard,
        name: str | Callable[[httpx.Request], str] | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        *,
        timeout: Duration | None = TIMEOUT,
        max_body_bytes: int | None = None,
        failure_statuses: Collection[int] = FAILURE_STATUSES,
        limit: int | None = None,
        wait: Duration = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(
            guard,
            name,
            transport,
            options,
            default=httpx.AsyncHTTPTransport,
            timeout=timeout,
            max_body_bytes=max_body_bytes,
            failure_statuses=failure_statuses,
            limit=limit,
            wait=wait,
        )

    async def __aenter__(self) -> Self:
        await self._transport.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        await self._transport.__aexit__(kind, error, trace)

    async def aclose(self) -> None:
        """Close the transport inside."""
        await self._transport.aclose()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request.

        Raises:
            CircuitOpenTransportError: The circuit rejected the request; nothing was sent.
            BulkheadFullTransportError: The bulkhead is full; nothing was sent.
            RateLimitedTransportError: The rate limit of a policy is exceeded; nothing was sent.
            httpx.RequestError: The errors of httpx.
        """
        guard = self._guarding.guard_of(request, origin_of(request))  # a breaker notices a fork before each call
        try:
            begin = getattr(guard, "_begin_async", None)  # a guard of another class is one of functions only
            call: Call = await begin() if begin is not None else guard.begin()
        except RejectedError as error:
            if (shown := rejection(error, request)) is error:
                raise
            raise shown from error
        exchange, observer = self._begun(guard, call, request)
        in_memory = type(request.stream) is httpx.ByteStream
        stream = request.stream if in_memory else _Upload(request.stream, exchange)
        sent = sent_as(request, stream, exchange)
        send = self._transport.handle_async_request
        keeps_deadline = exchange.limit is None or bool(self._pools)
        try:
            if observer is UNOBSERVED and keeps_deadline:
                response = await send(sent)
            else:
                with observer:
                    response = await (send(sent) if keeps_deadline else _in_time(exchange, send, sent))
        except BaseException as error:
            if (failed := self._failed(error, exchange, sent)) is error:
                raise
            raise failed from failed.__cause__
        if self._received(response, exchange):
            body = _Body(response, exchange, sent, self._proxy)
            body.keeps_deadline = keeps_deadline
            response.stream = body
        return response


async def _in_time(exchange: Exchange, step: Callable[..., Awaitable[R]], *args: Any) -> R:
    """Return await step(*args). Raises ReadTimeout at the deadline of the exchange."""
    module = module_of_task()
    if module.__name__ == "asyncio":
        try:
            async with module.timeout(exchange.time_left()) as scope:
                return await step(*args)
        except TimeoutError as error:
            if not scope.expired():
                raise
            raise httpx.ReadTimeout("the deadline has passed") from error
    with module.move_on_after(exchange.time_left()):
        return await step(*args)
    raise httpx.ReadTimeout("the deadline has passed")


class _Body(GuardedBody, httpx.AsyncByteStream):
    """The body of a response."""

    #: True if the transport inside keeps the deadline
    keeps_deadline = True

    async def __aiter__(self) -> AsyncIterator[bytes]:
        exchange, parts = self._exchange, aiter(self._stream)
        while True:
            if exchange.paused_at is not None:
                exchange.resume()
            try:
                part = await (anext(parts) if self.keeps_deadline else _in_time(exchange, parts.__anext__))
                if self._is_counted:
                    self.count(part)
            except StopAsyncIteration:
                break
            except BaseException as error:
                if (failed := self.failed(error)) is error:
                    raise
                raise failed from failed.__cause__
            self.hand_over(part)
            yield part
        if not exchange.is_ended:
            exchange.end(None)

    async def aclose(self) -> None:
        await self.closed().aclose()


class _Upload(httpx.AsyncByteStream):
    """The body of a request that is read while it is sent. The time of its reads does not count."""

    def __init__(self, stream: Any, exchange: Exchange) -> None:
        self._stream = stream
        self._exchange = exchange
        #: True after the caller's file or generator has raised an exception
        self.failed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        parts = aiter(self._stream)
        while True:
            self._exchange.pause()
            try:
                part = await anext(parts)
            except StopAsyncIteration:
                return
            except BaseException:
                self.failed = True
                raise
            finally:
                self._exchange.resume()
            yield part

    async def aclose(self) -> None:
        await self._stream.aclose()
