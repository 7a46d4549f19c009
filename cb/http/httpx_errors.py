"""Errors of requests of httpx: rejections, errors of the caller, and texts."""

import os
import re
import socket
import ssl
from http.client import HTTPException
from typing import Any

import httpcore
import httpx

from cb import BulkheadFullError, CircuitOpenError, RateLimitedError, RejectedError
from cb.pickling import PortableError
from cb.state.outcome import is_interruption

from .errors import BodyTooLargeError
from .exchange import Exchange
from .httpx_deadline import ConnectDeadlineError, TimeLimit
from .texts import error_chain, first, quoted, shown_origin, tls_text, too_large_text, within_text

#: errors that a dependency or the network may cause
_DEPENDENCY_ERRORS = (
    *(httpx.TransportError, httpx.DecodingError, OSError, HTTPException),
    *(httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError, httpcore.ProxyError),
)
#: those of them that are about the request itself, or about connections that other calls hold
_CALLER_ERRORS = (
    *(httpx.PoolTimeout, httpx.UnsupportedProtocol, httpx.LocalProtocolError),
    *(httpcore.PoolTimeout, httpcore.LocalProtocolError),
)
_SHORT_BODY = re.compile(r"\(received (\d+) bytes, expected (\d+)\)")


class _PortableTransportError(PortableError, httpx.ConnectError):
    """A rejection that is also an error of httpx. Nothing was sent."""

    _request: httpx.Request | None

    def __init__(self, *args: Any, request: httpx.Request | None = None) -> None:
        Exception.__init__(self, *args)
        self._request = request


class CircuitOpenTransportError(CircuitOpenError, _PortableTransportError):
    """A request that an open circuit rejected, also for code that catches the errors of httpx.

    Args:
        name: Name of the breaker.
        retry_after: Seconds until a call may be admitted; None while an operator holds the circuit open.
        request: The request.
    """

    def __init__(self, name: str, retry_after: float | None, request: httpx.Request | None = None) -> None:
        _PortableTransportError.__init__(self, name, retry_after, request=request)


class BulkheadFullTransportError(BulkheadFullError, _PortableTransportError):
    """A request that a full bulkhead rejected, also for code that catches the errors of httpx.

    Args:
        name: Name of the breaker behind the bulkhead.
        limit: Number of calls that may run at once.
        request: The request.
    """

    def __init__(self, name: str, limit: int, request: httpx.Request | None = None) -> None:
        _PortableTransportError.__init__(self, name, limit, request=request)


class RateLimitedTransportError(RateLimitedError, _PortableTransportError):
    """A request that the rate limit of a policy rejected, also for code that catches the errors of httpx.

    Args:
        name: Name of the rate limit.
        retry_after: Seconds until there may be room for another call.
        request: The request.
    """

    def __init__(self, name: str, retry_after: float | None, request: httpx.Request | None = None) -> None:
        _PortableTransportError.__init__(self, name, retry_after, request=request)


class BodyTooLargeResponseError(BodyTooLargeError, PortableError, httpx.RequestError):
    """The error of a request of httpx whose response is longer than `max_body_bytes`."""


def rejection(error: RejectedError, request: httpx.Request) -> RejectedError:
    """Return a rejection as an error of httpx."""
    if isinstance(error, CircuitOpenError):
        return CircuitOpenTransportError(error.name, error.retry_after, request)
    if isinstance(error, BulkheadFullError):
        return BulkheadFullTransportError(error.name, error.limit, request)
    if isinstance(error, RateLimitedError):
        return RateLimitedTransportError(error.name, error.retry_after, request)
    return error


def is_caller_error(error: BaseException) -> bool:
    """Return True if an exception comes from the caller's own code, arguments or pool, not from the dependency."""
    if is_interruption(error):
        return False
    return isinstance(error, _CALLER_ERRORS) or not isinstance(error, _DEPENDENCY_ERRORS)


def too_large(exchange: Exchange, headers: httpx.Headers, request: httpx.Request) -> BodyTooLargeResponseError:
    """Return the error for a body that is longer than the limit."""
    limit, encoded = exchange.max_bytes or 0, "content-encoding" in headers
    announced = headers.get("content-length", "")
    size = int(announced) if announced.isdecimal() and int(announced) > limit and not encoded else None
    reason = too_large_text(limit, size, encoded=encoded)
    return BodyTooLargeResponseError(reason, target=exchange.target, limit=limit, size=size, request=request)


def described(
    error: BaseException, exchange: Exchange, request: httpx.Request, proxy: str | None = None
) -> BaseException:
    """Return an error with a text that names method, host and reason. Errors of the caller are returned as they are."""
    if isinstance(error, BodyTooLargeError) or not isinstance(error, httpx.RequestError):
        return error
    if is_caller_error(error) and not isinstance(error, httpx.PoolTimeout):
        return error
    if first([*error_chain(error)], ConnectDeadlineError) and not isinstance(error, httpx.ConnectTimeout):
        error = _with_cause(httpx.ConnectTimeout(str(error)), error.__cause__)
    reason = _reason_of(error, Limits(exchange.limit, request), answered=exchange.answered, proxy=proxy)
    error.args = (f"{exchange.target}: {reason}",)
    return error


def _with_cause(error: httpx.RequestError, cause: BaseException | None) -> httpx.RequestError:
    error.__cause__ = cause
    return error


class Limits:
    """Time limits of a request: of the whole of it, and those of httpx.

    Args:
        total: Time limit for the request and its response, in seconds.
        request: The request.
    """

    def __init__(self, total: float | None, request: httpx.Request) -> None:
        self._total = total
        self._own = request.extensions.get("timeout") or {}

    def within(self, kind: str) -> str:
        """Return the shorter one of total and the one of a kind, as in ` within 5 s`; nothing without a limit."""
        own = self._own.get(kind)
        return within_text(self._total, own.own if isinstance(own, TimeLimit) else own)


def _reason_of(error: httpx.RequestError, limits: Limits, *, answered: bool, proxy: str | None) -> str:
    chain = [*error_chain(error)]
    if isinstance(error, httpx.PoolTimeout):
        return f"all connections of the pool are in use, and none became free{limits.within('pool')}"
    name = f"the proxy {shown_origin(proxy)}" if proxy else "the proxy"
    if isinstance(error, httpx.ProxyError):
        return f"{name} refused the connection ({quoted(str(error))})"
    if isinstance(error, httpx.ConnectTimeout | httpx.ConnectError):
        reason = _of_connecting(error, chain, limits)
        # The socket is one to the proxy; a certificate is that of the host behind it.
        return f"{name} cannot be used: {reason}" if proxy and not first(chain, ssl.SSLError) else reason
    reason = _of_exchange(error, chain, limits, answered=answered)
    return f"{reason} (through the proxy {shown_origin(proxy)})" if proxy else reason


def _of_connecting(error: httpx.RequestError, chain: list[BaseException], limits: Limits) -> str:
    if isinstance(error, httpx.ConnectTimeout):
        return f"no connection{limits.within('connect')}"
    unknown = first(chain, socket.gaierror)
    if unknown is not None:
        return f"the name of the host cannot be resolved ({unknown.strerror or unknown})"
    if (tls := tls_text(chain)) is not None:
        return tls
    # anyio and trio wrap those of several addresses.
    errors = (each for each in _leaves(chain) if isinstance(each, OSError) and each.errno is not None)
    cause = next(errors, None)
    return f"cannot connect ({os.strerror(cause.errno or 0) if cause is not None else quoted(str(error))})"


def _leaves(chain: list[BaseException]) -> list[BaseException]:
    """Return exceptions with those that groups among them hold."""
    found: list[BaseException] = []
    for each in chain:
        found += [inner for member in each.exceptions for inner in error_chain(member)] if _is_group(each) else [each]  # type: ignore[attr-defined]  # of groups
    return found


def _is_group(error: BaseException) -> bool:
    return isinstance(error, BaseExceptionGroup)


def _of_exchange(error: httpx.RequestError, chain: list[BaseException], limits: Limits, *, answered: bool) -> str:
    """Return the reason of a request that was sent, at least in part."""
    if isinstance(error, httpx.TimeoutException):
        kind = "write" if isinstance(error, httpx.WriteTimeout) else "read"
        return f"{'the body did not end' if answered else 'no response'}{limits.within(kind)}"
    if isinstance(error, httpx.DecodingError):
        return f"the body cannot be decompressed ({quoted(str(error))})"
    if (tls := tls_text(chain)) is not None:
        return tls
    when = "before the end of the body" if answered else "before a response"
    text = str(error)
    if isinstance(error, httpx.NetworkError):
        verb = "closed" if first(chain, BrokenPipeError) is not None else "reset"
        return f"the connection was {verb} {when}"
    if "disconnected" in text:
        return f"the connection was closed {when}"
    if short := _SHORT_BODY.search(text):
        return f"the body ended early, after {int(short[1]):,} bytes of {int(short[2]):,}"
    if "incomplete" in text:
        return "the body ended early"
    if "illegal status line" in text:
        return "the response is not HTTP"
    return f"the response is not valid HTTP ({quoted(text or type(error).__name__)})"
