"""Requests of httpx and their bodies: the part that synchronous and asynchronous transports have in common."""

from collections.abc import Callable, Collection
from functools import lru_cache, partial
from typing import Any

import httpx
from httpx._transports.default import AsyncResponseStream, ResponseStream, map_httpcore_exceptions

from cb import Call, ConfigError, Duration, Guard, Registry
from cb.background.fork import register_fork_reset
from cb.log import Log

from .exchange import Exchange
from .guarding import Guarding
from .httpx_deadline import keep_deadlines, limited, pools_of
from .httpx_errors import described, is_caller_error, too_large
from .observer import CallObserver, observe
from .origins import origin_name
from .responses import retry_after

log = Log(__name__)

#: transports that have no network
_IN_MEMORY = (httpx.MockTransport, httpx.WSGITransport, httpx.ASGITransport)
#: bytes of a compressed body that are decompressed at once where there is a limit: these expand 1032 times at most,
#: others have no such ratio
_PIECE_BYTES = {"GZipDecoder": 1024, "DeflateDecoder": 1024}
_SMALL_PIECE_BYTES = 16
#: bytes that a compressed body may be longer than the content, beside 1 %
_FRAMING_BYTES = 1024

#: in place of what a closed body had
_EMPTY = httpx.ByteStream(b"")
_NOT_SENT = httpx.Request("GET", "http://closed")

#: the streams of httpx around those of httpcore
_OF_HTTPX = (ResponseStream, AsyncResponseStream)

_logged: set[type] = set()
_inherited: list[Any] = []


class GuardedTransport:
    """The guard of a transport, and the transport inside."""

    def __init__(
        self,
        guard: Registry | Guard,
        name: str | Callable[[httpx.Request], str] | None,
        transport: Any,
        options: dict[str, Any],
        *,
        default: type,
        timeout: Duration | None,
        max_body_bytes: int | None,
        failure_statuses: Collection[int],
        limit: int | None,
        wait: Duration,
    ) -> None:
        self._guarding = Guarding(
            guard,
            name,
            timeout=timeout,
            max_body_bytes=max_body_bytes,
            failure_statuses=failure_statuses,
            limit=limit,
            wait=wait,
        )
        if transport is not None and options:
            raise ConfigError("options", f"be given to the transport inside, {transport!r}", [*options])
        self._transport = default(**options) if transport is None else transport
        self._pools = pools_of(self._transport)
        for pool in self._pools:
            keep_deadlines(pool)
        self._proxy = next(filter(None, map(_proxy_of, self._pools)), None)
        register_fork_reset(self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._guarding!r}>"

    def reset_after_fork(self) -> None:
        """Replace the connections in a forked child: two readers of one would get each other's responses."""
        for pool in self._pools:
            _inherited.append(pool._connections)  # noqa: SLF001 - not closed: a thread of the parent may use them
            pool._connections, pool._requests = [], []  # noqa: SLF001 - as at its creation
            if hasattr(pool, "_optional_thread_lock"):
                pool._optional_thread_lock = type(pool._optional_thread_lock)()  # noqa: SLF001 - it may be held

    def _begun(self, guard: Guard, call: Call, request: httpx.Request) -> tuple[Exchange, CallObserver]:
        """Return the exchange of a request that was admitted, and its observer."""
        observer = observe(guard, call, request.method, request.url, request.headers)
        guarding = self._guarding
        limit = guarding.limit_of(guard, call) if call.probe else guarding.timeout
        max_bytes = guarding.max_body_bytes
        return Exchange(call, observer, partial(_target, request), limit=limit, max_bytes=max_bytes), observer

    def _failed(self, error: BaseException, exchange: Exchange, sent: httpx.Request) -> BaseException:
        """Count an error before the response. Return it with a text."""
        shown = described(error, exchange, sent, self._proxy)
        exchange.end(shown, is_callers=getattr(sent.stream, "failed", False) or is_caller_error(shown))
        return shown

    def _received(self, response: httpx.Response, exchange: Exchange) -> bool:
        """Record status and headers. Return True if a body is still to be read."""
        status = response.status_code
        if status in self._guarding.failure_statuses:
            exchange.received(status, failure=True, retry_after=retry_after(response.headers))
        elif exchange.is_observed:
            exchange.received(status, failure=False)
        else:
            exchange.answered = True
        if response.is_closed or status == 101:  # read already, as of a mock; or a protocol of its own
            exchange.end(None)
            return False
        return True

    def _warn_without_pool(self) -> None:
        """Log, once for each type of transport, that it cannot keep a deadline."""
        cls = type(self._transport)
        if not self._pools and cls not in _logged and not issubclass(cls, _IN_MEMORY):
            _logged.add(cls)
            log.warning(
                "the deadline does not hold in transports of %s: they have no pool of httpcore", cls.__qualname__
            )


def sent_as(request: httpx.Request, stream: Any, exchange: Exchange) -> httpx.Request:
    """Return a copy of a request to send, with another body and the deadline of its exchange."""
    sent = object.__new__(type(request))
    sent.__dict__.update(request.__dict__)
    sent.stream = stream
    if exchange.limit is not None:
        timeouts = request.extensions.get("timeout") or {}
        sent.extensions = request.extensions | {"timeout": limited(timeouts, exchange)}
    return sent


class GuardedBody:
    """The body of a response, observed until it has been read or closed.

    Args:
        response: The response.
        exchange: Its exchange.
        sent: The request as it was sent.
        proxy: URL of its proxy.
    """

    def __init__(self, response: httpx.Response, exchange: Exchange, sent: httpx.Request, proxy: str | None) -> None:
        stream: Any = response.stream
        #: True if the errors of the stream are those of httpcore
        self._is_inner = type(stream) in _OF_HTTPX
        # Each read through the stream of httpx costs a context manager, which translates errors.
        self._stream: Any = stream._httpcore_stream if self._is_inner else stream  # noqa: SLF001 - as httpx does
        #: True if the bytes are counted as they are received
        self._is_counted = exchange.max_bytes is not None
        self._headers = response.headers
        self._exchange = exchange
        self._sent = sent
        self._proxy = proxy
        # bytes of the body that are still to come; None if the response does not announce them
        self._left: int | None = None
        self._is_encoded = False
        # Its own look-ups take longer.
        for _, name, value in getattr(response.headers, "_list", None) or _items(response.headers):
            if name == b"content-length":
                self._left = int(value) if value.isdigit() else None
            elif name == b"content-encoding" and hasattr(response, "_get_content_decoder"):
                inner = response._get_content_decoder()  # noqa: SLF001 - httpx decompresses in the response alone
                response._decoder = _Decoder(inner, self, exchange)  # type: ignore[assignment]  # noqa: SLF001 - kept there
                self._is_encoded = True
                exchange.left += exchange.left // 100 + _FRAMING_BYTES
        exchange.pause()

    def count(self, received: bytes) -> None:
        """Count bytes of the body. Raises BodyTooLargeError."""
        if self._exchange.exceeds(len(received)):
            raise self.too_large()

    def hand_over(self, received: bytes) -> None:
        """Stop the time until the next read, or end the exchange after the last byte of an announced length.

        A compressed body may still fail to be decompressed.
        """
        if self._left is not None:
            self._left -= len(received)
            if self._left == 0 and not self._is_encoded:
                self._exchange.end(None)
                return
        self._exchange.pause()

    def too_large(self) -> BaseException:
        """Record that the body is longer than the limit. Return the error."""
        error = too_large(self._exchange, self._headers, self._sent)
        self._exchange.end(error)
        return error

    def closed(self) -> Any:
        """Record that the caller reads no more, which is a success. Return the stream to close."""
        if not self._exchange.is_ended:
            self._exchange.end(None)
        # Freed now: httpx keeps the response in a circle, and thus all of this until the next garbage collection.
        stream, self._stream = self._stream, _EMPTY
        self._sent = _NOT_SENT
        return stream

    def failed(self, error: BaseException) -> BaseException:
        """Count an error of a read. Return it with a text."""
        if self._is_inner:
            error = _translated(error)
        shown = described(error, self._exchange, self._sent, self._proxy)
        self._exchange.end(shown, is_callers=is_caller_error(shown))
        return shown


def _translated(error: BaseException) -> BaseException:
    """Return an error of httpcore as one of httpx, with the former as its cause."""
    try:
        with map_httpcore_exceptions():
            raise error
    except BaseException as translated:  # noqa: BLE001 - returned
        return translated


class _Decoder:
    """Decompresses a body, and counts its bytes."""

    def __init__(self, inner: Any, body: GuardedBody, exchange: Exchange) -> None:
        self._inner = inner
        self._body = body
        self._left = exchange.max_bytes

    def decode(self, data: bytes) -> bytes:
        if self._left is None:
            return self._decoded(self._inner.decode, data)
        size = _PIECE_BYTES.get(type(self._inner).__name__, _SMALL_PIECE_BYTES)
        pieces = (data[begin : begin + size] for begin in range(0, len(data), size))
        return b"".join(self._counted(self._decoded(self._inner.decode, piece)) for piece in pieces)

    def flush(self) -> bytes:
        return self._counted(self._decoded(self._inner.flush))

    def _decoded(self, step: Callable[..., bytes], *args: bytes) -> bytes:
        try:
            return step(*args)
        except httpx.DecodingError as error:
            raise self._body.failed(error) from error.__cause__

    def _counted(self, data: bytes) -> bytes:
        if self._left is not None:
            self._left -= len(data)
            if self._left < 0:
                raise self._body.too_large()
        return data


def _items(headers: httpx.Headers) -> Any:
    """Return name, name in lower case and value of each header, as httpx keeps them in an attribute."""
    return [(name, name.lower(), value) for name, value in headers.raw]


def origin_of(request: httpx.Request) -> str:
    """Return the name of the breaker of an origin. Raises InvalidURL for a URL without a host."""
    url = request.url
    try:
        return _named(url.scheme, url.raw_host, url.port)
    except ValueError as error:
        raise httpx.InvalidURL(str(error)) from error


@lru_cache(maxsize=1024)
def _named(scheme: str, raw_host: bytes, port: int | None) -> str:
    host = raw_host.decode("ascii")
    if "%" in host and ":" not in host:  # httpx quotes what no host has
        raise ValueError("The host is invalid.")
    return origin_name(scheme, host, port)


def _target(request: httpx.Request) -> str:
    return f"{request.method} {request.url.scheme}://{request.url.netloc.decode('ascii')}"


def _proxy_of(pool: Any) -> str | None:
    """Return the URL of the proxy of a pool, without user and password; None without a proxy."""
    url = getattr(getattr(pool, "_proxy", None), "url", None) or getattr(pool, "_proxy_url", None)
    if url is None:
        return None
    port = "" if url.port is None else f":{url.port}"
    return f"{url.scheme.decode('ascii')}://{url.host.decode('ascii')}{port}"
