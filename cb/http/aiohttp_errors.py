"""Errors of requests of aiohttp: rejections, errors of the caller, and texts."""

import os
import re
from typing import Any

import aiohttp

from cb import BulkheadFullError, CircuitOpenError, RateLimitedError, RejectedError
from cb.pickling import PortableError
from cb.state.outcome import is_interruption

from .described import Described
from .described import described as with_text
from .errors import BodyTooLargeError
from .exchange import Exchange
from .texts import error_chain, first, quoted, shown_origin, tls_text, too_large_text, within_text

#: errors that a dependency or the network may cause
_DEPENDENCY_ERRORS = (aiohttp.ClientError, OSError)
#: those of them that are about the URL of the request
_URL_ERRORS = (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError)
_STATUS_LINE = re.compile("status line|invalid http|expected http", re.IGNORECASE)


class CircuitOpenClientError(CircuitOpenError, aiohttp.ClientConnectionError):
    """A request that an open circuit rejected, also for code that catches the errors of aiohttp.

    Args:
        name: Name of the breaker.
        retry_after: Seconds until a call may be admitted; None while an operator holds the circuit open.
    """


class BulkheadFullClientError(BulkheadFullError, aiohttp.ClientConnectionError):
    """A request that a full bulkhead rejected, also for code that catches the errors of aiohttp.

    Args:
        name: Name of the breaker behind the bulkhead.
        limit: Number of calls that may run at once.
    """


class RateLimitedClientError(RateLimitedError, aiohttp.ClientConnectionError):
    """A request that the rate limit of a policy rejected, also for code that catches the errors of aiohttp.

    Args:
        name: Name of the rate limit.
        retry_after: Seconds until there may be room for another call.
    """


class BodyTooLargePayloadError(BodyTooLargeError, PortableError, aiohttp.ClientPayloadError):
    """The error of a request of aiohttp whose response is longer than `max_body_bytes`."""


def rejection(error: RejectedError) -> RejectedError:
    """Return a rejection as an error of aiohttp."""
    if isinstance(error, CircuitOpenError):
        return CircuitOpenClientError(error.name, error.retry_after)
    if isinstance(error, BulkheadFullError):
        return BulkheadFullClientError(error.name, error.limit)
    if isinstance(error, RateLimitedError):
        return RateLimitedClientError(error.name, error.retry_after)
    return error


def is_caller_error(error: BaseException) -> bool:
    """Return True if an exception comes from the caller's own code or arguments, not from the dependency."""
    if is_interruption(error):
        return False
    if isinstance(error, _URL_ERRORS) or not isinstance(error, _DEPENDENCY_ERRORS):
        return True
    cls = type(error).__mro__[2] if isinstance(error, Described) else type(error)
    if cls is aiohttp.ClientConnectionError:  # of a body that raises, and of a connector that the caller has closed
        return not isinstance(error.__cause__, OSError)
    # Of a file that cannot be read: the network has other errors.
    cause = error.__cause__
    is_upload = cls is aiohttp.ClientOSError and "request body" in str(error)
    return is_upload and isinstance(cause, OSError) and not isinstance(cause, ConnectionError | TimeoutError)


def too_large(exchange: Exchange, headers: Any) -> BodyTooLargePayloadError:
    """Return the error for a body that is longer than the limit."""
    limit, encoded = exchange.max_bytes or 0, "content-encoding" in headers
    announced = headers.get("content-length", "")
    size = int(announced) if announced.isdecimal() and int(announced) > limit and not encoded else None
    reason = too_large_text(limit, size, encoded=encoded)
    return BodyTooLargePayloadError(reason, target=exchange.target, limit=limit, size=size)


def described(error: BaseException, exchange: Exchange, proxy: object = None, received: str = "") -> BaseException:
    """Return an error with a text that names method, host and reason. Errors of the caller are returned as they are.

    Args:
        error: Error of aiohttp.
        exchange: The exchange of the request.
        proxy: URL of its proxy.
        received: Number of bytes of the body, and of how many.
    """
    if isinstance(error, BodyTooLargeError | Described) or is_caller_error(error):
        return error
    if not isinstance(error, _DEPENDENCY_ERRORS):
        return error
    shown = f"the proxy {shown_origin(str(proxy))}" if proxy else "the proxy"
    chain = [*error_chain(error)]
    if isinstance(error, aiohttp.ClientHttpProxyError):
        reason = f"{shown} refused the connection ({error.status} {quoted(error.message)})"
    elif isinstance(error, aiohttp.ClientProxyConnectionError):
        reason = f"{shown} cannot be used: {_of_connecting(error, chain)}"
    elif isinstance(error, aiohttp.ClientConnectorError):
        reason = _of_connecting(error, chain)
    else:
        reason = _of_exchange(error, chain, answered=exchange.answered, received=received)
        reason += f" (through {shown})" if proxy else ""
    return with_text(error, exchange.target, reason)


def late(exchange: Exchange, *, connected: bool, pool_is_full: bool) -> BaseException:
    """Return the error of a request at its deadline."""
    within = within_text(exchange.limit)
    if exchange.answered:
        return with_text(aiohttp.SocketTimeoutError(), exchange.target, f"the body did not end{within}")
    if connected:
        return with_text(aiohttp.SocketTimeoutError(), exchange.target, f"no response{within}")
    if pool_is_full:
        reason = f"all connections of the pool are in use, and none became free{within}"
    else:
        reason = f"no connection{within}"
    return with_text(aiohttp.ConnectionTimeoutError(), exchange.target, reason)


def _of_connecting(error: aiohttp.ClientConnectorError, chain: list[BaseException]) -> str:
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return f"the name of the host cannot be resolved ({quoted(error.strerror or str(error.os_error))})"
    if (tls := tls_text(chain)) is not None:
        return tls
    return f"cannot connect ({os.strerror(error.errno) if error.errno else quoted(str(error.os_error))})"


def _of_exchange(error: BaseException, chain: list[BaseException], *, answered: bool, received: str) -> str:
    """Return the reason of a request that was sent, at least in part. The timeouts are those of aiohttp."""
    text = str(error)
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return "no connection within the timeout of aiohttp"
    if isinstance(error, TimeoutError):
        return f"{'the body did not end' if answered else 'no response'} within the timeout of aiohttp"
    if isinstance(error, aiohttp.ClientPayloadError):
        if "decode" in text or "decode" in str(error.__cause__):
            return f"the body cannot be decompressed ({quoted(str(error.__cause__ or text))})"
        return f"the body ended early{received}"
    if (tls := tls_text(chain)) is not None:
        return tls
    when = "before the end of the body" if answered else "before a response"
    if isinstance(error, aiohttp.ServerDisconnectedError) or first(chain, BrokenPipeError) is not None:
        return f"the connection was closed {when}"
    if isinstance(error, OSError):
        return f"the connection was reset {when}"
    if isinstance(error, aiohttp.ClientResponseError):
        if _STATUS_LINE.search(error.message):
            return "the response is not HTTP"
        return f"the response is not valid HTTP ({quoted(error.message)})"
    return quoted(text or type(error).__name__)
