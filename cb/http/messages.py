"""Texts of errors: method, host and reason, as in `GET https://example.com: no response within 5 s`.

The classes of requests and urllib3 stay as they are, and so do their arguments. An error of requests is given an
argument of the same class whose text is ours; the one it replaces becomes the `__cause__`.
"""

import socket
import ssl
from http.client import BadStatusLine, HTTPException, RemoteDisconnected
from http.client import IncompleteRead as ShortRead
from typing import Any, NamedTuple, TypeVar

import requests
from requests.utils import select_proxy
from urllib3.exceptions import (
    ClosedPoolError,
    ConnectTimeoutError,
    DecodeError,
    EmptyPoolError,
    HTTPError,
    IncompleteRead,
    InvalidChunkLength,
    MaxRetryError,
    NewConnectionError,
    ProxyError,
    ReadTimeoutError,
    ResponseError,
)

from .described import Described, described
from .texts import error_chain, first, plain, quoted, shown_origin, within_text

E = TypeVar("E", bound=BaseException)


class Limits(NamedTuple):
    """Time limits of a request, in seconds; None for no limit."""

    #: limit of the whole request
    total: float | None = None
    #: limit of a connection attempt
    connect: float | None = None
    #: limit of each wait for data
    read: float | None = None

    @classmethod
    def of(cls, total: float | None, timeout: Any) -> "Limits":
        """Return the limits of a request with a `timeout` of requests: a number, a pair, or a Timeout of urllib3."""
        if isinstance(timeout, tuple) and len(timeout) == 2:
            connect, read = timeout
        else:
            connect = getattr(timeout, "connect_timeout", timeout)
            read = getattr(timeout, "_read", timeout)
            read = read if isinstance(read, int | float) else getattr(timeout, "total", None)
        return cls(total, *(each if isinstance(each, int | float) else None for each in (connect, read)))

    def shown(self, own: float | None) -> str:
        """Return the shorter of the total and another limit, as in ` within 5 s`; nothing without a limit."""
        return within_text(self.total, own)


class Sent(NamedTuple):
    """A request that was sent, for the texts of its errors."""

    request: requests.PreparedRequest
    limits: Limits
    #: URL of its proxy
    proxy: str | None = None

    @classmethod
    def of(
        cls, request: requests.PreparedRequest, total: float | None, args: tuple[Any, ...], options: dict[str, Any]
    ) -> "Sent":
        """Return a request with its time limits, from the arguments of `send` of an adapter."""
        given = dict(zip(("stream", "timeout", "verify", "cert", "proxies"), args, strict=False)) | options
        proxy = select_proxy(request.url or "", given.get("proxies"))
        return cls(request, Limits.of(total, given.get("timeout")), proxy)

    @property
    def target(self) -> str:
        """Method and origin of the request."""
        return target(self.request)

    def reason_of(self, error: BaseException, *, answered: bool = False) -> str:
        """Return the reason of an error of the request; of its body, if the request was `answered`."""
        return reason_of(error, self.limits, proxy=self.proxy, answered=answered)


def target(request: requests.PreparedRequest | None) -> str:
    """Return method and origin of a request, as in `GET https://example.com`: no path, no query and no password."""
    if request is None:
        return "request"
    return f"{request.method or 'GET'} {shown_origin(request.url or '')}"


def reason_of(error: BaseException, limits: Limits, *, proxy: str | None = None, answered: bool = False) -> str:
    """Return the reason of a failed request, in words.

    Args:
        error: Error of requests or urllib3.
        limits: Time limits of the request.
        proxy: URL of its proxy.
        answered: True if status and headers have been received: the body has failed.
    """
    chain = list(error_chain(error))
    if any(isinstance(each, ProxyError) for each in chain):
        name = f"the proxy {shown_origin(proxy)}" if proxy else "the proxy"
        return f"{name} {_reason_of_proxy(chain, limits)}"
    reason = _of_connecting(chain, limits) or _of_exchange(chain, limits, answered=answered)
    return f"{reason} (through the proxy {shown_origin(proxy)})" if proxy else reason


def is_of_connecting(error: BaseException) -> bool:
    """Return True if a connection attempt failed, which an adapter repeats."""
    return isinstance(error.args[0] if error.args else None, MaxRetryError)


def describe(error: E, where: str, reason: str) -> E:
    """Give an error of requests a text, and return it. The error inside it becomes its cause."""
    inner = error.args[0] if error.args else None
    if not isinstance(inner, BaseException):
        error.args = (f"{where}: {reason}",)
    elif not isinstance(inner, Described):
        error.args = (described(inner, where, reason),)
        error.__cause__ = inner
    return error


def is_described(error: BaseException) -> bool:
    """Return True if an error, or the one inside it, was given a text."""
    return described_reason(error) is not None


def described_reason(error: BaseException) -> str | None:
    """Return the reason in the text that an error, or the one inside it, was given; None without one."""
    found = (each for each in (error, *error.args) if isinstance(each, Described))
    return next((each.reason_text for each in found), None)


def _of_connecting(chain: list[BaseException], limits: Limits) -> str | None:
    """Return the reason of a request whose connection was not established; None for another one."""
    if first(chain, EmptyPoolError) is not None:
        return f"all connections of the pool are in use, and none became free{limits.shown(None)}"
    if first(chain, ClosedPoolError) is not None:
        return "the pool of connections was closed meanwhile"
    retries = first(chain, MaxRetryError)
    new = first(chain, NewConnectionError)
    if new is not None:
        return _of_new_connection(new, chain)
    if first(chain, ConnectTimeoutError) is not None:
        return f"no connection{limits.shown(limits.connect)}"
    verification = first(chain, ssl.SSLCertVerificationError)
    if verification is not None:
        return f"the certificate is not trusted: {quoted(verification.verify_message or plain(verification))}"
    mismatch = next((each for each in chain if type(each).__name__ == "CertificateError"), None)  # of urllib3 1.26
    if mismatch is not None:
        return f"the certificate is not trusted: {quoted(str(mismatch))}"
    if retries is not None and isinstance(retries.reason, ResponseError):
        return quoted(str(retries.reason))
    return None


def _of_new_connection(new: NewConnectionError, chain: list[BaseException]) -> str:
    unknown = first(chain, socket.gaierror)
    if unknown is not None:
        return f"the name of the host cannot be resolved ({unknown.strerror or unknown})"
    cause = first([*error_chain(new)][1:], OSError)
    return f"cannot connect ({plain(cause) if cause is not None else str(new).rpartition(': ')[2]})"


def _of_exchange(chain: list[BaseException], limits: Limits, *, answered: bool) -> str:
    """Return the reason of a request that was sent, at least in part."""
    if first(chain, ReadTimeoutError, TimeoutError) is not None:
        if answered:
            return f"the body did not end{limits.shown(limits.read)}"
        return f"no response{limits.shown(limits.read)}"
    if (tls := first(chain, ssl.SSLError)) is not None:
        return f"TLS failed ({quoted((tls.reason or plain(tls)).replace('_', ' ').lower())})"
    if (undecoded := first(chain, DecodeError)) is not None:
        return f"the body cannot be decompressed ({quoted(str(undecoded.args[-1] if undecoded.args else undecoded))})"
    when = "before the end of the body" if answered else "before a response"
    if first(chain, RemoteDisconnected, BrokenPipeError) is not None:
        return f"the connection was closed {when}"
    if first(chain, ConnectionError) is not None:
        return f"the connection was reset {when}"
    if (chunk := first(chain, InvalidChunkLength)) is not None and chunk.length:
        return "the response is not valid HTTP (the length of a chunk is no number)"
    if (short := first(chain, ShortRead)) is not None:
        return _of_short_body(short)
    if first(chain, BadStatusLine) is not None:
        return "the response is not HTTP"
    if any("ended prematurely" in str(each) for each in chain):  # of a chunk, in urllib3
        return "the body ended early"
    innermost = first(chain[::-1], HTTPException, HTTPError, OSError) or chain[-1]
    if isinstance(innermost, OSError) and innermost.errno is not None:
        return f"the connection failed {when} ({plain(innermost)})"
    return f"the response is not valid HTTP ({quoted(str(innermost) or type(innermost).__name__)})"


def _of_short_body(error: ShortRead) -> str:
    if type(error) is not IncompleteRead or error.expected is None:  # else it tells of a chunk, not of the body
        return "the body ended early"
    return f"the body ended early, after {error.partial:,} bytes of {error.partial + error.expected:,}"


def _reason_of_proxy(chain: list[BaseException], limits: Limits) -> str:
    if first(chain, NewConnectionError, ConnectTimeoutError, ssl.SSLCertVerificationError) is not None:
        return f"cannot be used: {_of_connecting(chain, limits)}"
    innermost = chain[-1]
    refused = next((str(each) for each in chain if type(each) is OSError and "Tunnel" in str(each)), None)
    if refused is not None:
        return f"refused the connection ({quoted(refused.rpartition('failed: ')[2])})"
    if isinstance(innermost, OSError | HTTPException):
        return f"failed: {_of_exchange(chain, limits, answered=False)}"
    return f"failed ({quoted(str(innermost))})"
