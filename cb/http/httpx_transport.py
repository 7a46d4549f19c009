"""A transport of httpx that puts breakers before the requests of an `httpx.Client`."""

from collections.abc import Callable, Collection, Iterator
from types import TracebackType
from typing import Any, Self

import httpx

from cb import Duration, Guard, Registry, RejectedError

from .exchange import Exchange
from .httpx_errors import rejection
from .httpx_requests import GuardedBody, GuardedTransport, origin_of, sent_as
from .observer import UNOBSERVED
from .responses import FAILURE_STATUSES
from .timeouts import TIMEOUT


class CircuitBreakerTransport(GuardedTransport, httpx.BaseTransport):
    """A transport that guards requests: `httpx.Client(transport=CircuitBreakerTransport(registry))`.

    With a registry, each scheme, host and port has a breaker of its own, or `name` selects one. A response with one of
    the `failure_statuses` counts as a failure, and is returned. Any other response counts when its body has been read
    to its end, or closed: a body that is cut off or too slow is a failure. A request that cannot be sent counts as
    neither. A probe takes at most its breaker's `probe_timeout`.

    Args:
        guard: Registry of the breakers; or a breaker, a bulkhead, or a policy without retry, cache and fallback, for
            all requests.
        name: Name of the breaker in the registry, or a function of the request that returns it.
        transport: Transport that sends the requests; by default an `httpx.HTTPTransport`.
        timeout: Time limit for a request and its response, body included, in seconds or as a timedelta; None for no
            limit. The timeouts of httpx hold within it.
        max_body_bytes: Largest body of a response, in bytes after decompression; None for no limit. A longer one raises
            BodyTooLargeError, and counts as neither success nor failure.
        failure_statuses: Statuses that count as failures.
        limit: Number of requests that may run at once through each breaker, bodies included; None for no bulkhead.
        wait: Time to wait for a place in the bulkhead.
        options: Options of `httpx.HTTPTransport`, such as `verify`, `http2`, `limits` and `proxy`: a client that is
            given a transport does not use its own.

    Raises:
        ConfigError: A parameter is invalid, `name` or `limit` is given for a guard that is no registry, or `options`
            with a transport.
    """

    _transport: httpx.BaseTransport

    def __init__(
        self,
        guard: Registry | Guard,
        name: str | Callable[[httpx.Request], str] | None = None,
        transport: httpx.BaseTransport | None = None,
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
            default=httpx.HTTPTransport,
            timeout=timeout,
            max_body_bytes=max_body_bytes,
            failure_statuses=failure_statuses,
            limit=limit,
            wait=wait,
        )
        if timeout is not None:
            self._warn_without_pool()

    def __enter__(self) -> Self:
        self._transport.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        self._transport.__exit__(kind, error, trace)

    def close(self) -> None:
        """Close the transport inside."""
        self._transport.close()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request.

        Raises:
            CircuitOpenTransportError: The circuit rejected the request; nothing was sent.
            BulkheadFullTransportError: The bulkhead is full; nothing was sent.
            RateLimitedTransportError: The rate limit of a policy is exceeded; nothing was sent.
            httpx.RequestError: The errors of httpx.
        """
        guard = self._guarding.guard_of(request, origin_of(request))  # a breaker notices a fork before each call
        try:
            call = guard.begin()
        except RejectedError as error:
            if (shown := rejection(error, request)) is error:
                raise
            raise shown from error
        exchange, observer = self._begun(guard, call, request)
        in_memory = type(request.stream) is httpx.ByteStream
        stream = request.stream if in_memory else _Upload(request.stream, exchange)
        sent = sent_as(request, stream, exchange)
        try:
            if observer is UNOBSERVED:
                response = self._transport.handle_request(sent)
            else:
                with observer:
                    response = self._transport.handle_request(sent)
        except BaseException as error:
            if (failed := self._failed(error, exchange, sent)) is error:
                raise
            raise failed from failed.__cause__
        if self._received(response, exchange):
            response.stream = _Body(response, exchange, sent, self._proxy)
        return response


class _Body(GuardedBody, httpx.SyncByteStream):
    """The body of a response."""

    def __iter__(self) -> Iterator[bytes]:
        exchange, parts = self._exchange, iter(self._stream)
        while True:
            if exchange.paused_at is not None:
                exchange.resume()
            try:
                part = next(parts)
                if self._is_counted:
                    self.count(part)
            except StopIteration:
                break
            except BaseException as error:
                if (failed := self.failed(error)) is error:
                    raise
                raise failed from failed.__cause__
            self.hand_over(part)
            yield part
        if not exchange.is_ended:
            exchange.end(None)

    def close(self) -> None:
        self.closed().close()


class _Upload(httpx.SyncByteStream):
    """The body of a request that is read while it is sent. The time of its reads does not count."""

    def __init__(self, stream: Any, exchange: Exchange) -> None:
        self._stream = stream
        self._exchange = exchange
        #: True after the caller's file or generator has raised an exception
        self.failed = False

    def __iter__(self) -> Iterator[bytes]:
        parts = iter(self._stream)
        while True:
            self._exchange.pause()
            try:
                part = next(parts)
            except StopIteration:
                return
            except BaseException:
                self.failed = True
                raise
            finally:
                self._exchange.resume()
            yield part

    def close(self) -> None:
        self._stream.close()
