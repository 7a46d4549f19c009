"""A client that speaks JSON with one service, through its breaker."""

import json
import re
from collections.abc import Callable, Mapping
from http.cookiejar import DefaultCookiePolicy
from types import MappingProxyType
from typing import Any, TypeVar, overload
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import HTTPError, NewConnectionError

from cb import Bulkhead, CircuitBreaker, CircuitError, ConfigError
from cb.fallback import V, instead, reraise
from cb.guard import CallGuard
from cb.http.observer import UNOBSERVED, CallObserver, observe
from cb.state.deferred import require_done, require_now

from .adapter import POOL
from .caller_errors import is_caller_error
from .connections import within
from .deadline import DeadlineAdapter, PoolTimeoutError
from .responses import (
    MAX_RESPONSE_BYTES,
    ClientError,
    InvalidResponse,
    Json,
    ServiceUnavailable,
    client_error_response,
    is_failure,
    parse_response,
    retry_after,
)
from .session import confined, seconds

T = TypeVar("T")
F = TypeVar("F")
#: makes what the caller gets instead of an answer
Fallback = Callable[[ClientError | CircuitError], F]
Headers = Mapping[str, str]

_NONE: Headers = MappingProxyType({})
_BASE = re.compile(r"https?://[^/?#\s]+(/[^?#\s]*)?", re.ASCII | re.IGNORECASE)
# A segment that is `..` would make requests call another path, quoted or not.
_PATH = re.compile(r"(/(?!\.\.?(/|\Z))[A-Za-z0-9._~-]+)+", re.ASCII)
_NAME = re.compile(r"[!#$%&'*+.^_`|~A-Za-z0-9-]+", re.ASCII)
_VALUE = re.compile(r"(?!\s)[\t\x20-\x7e\x80-\xff]*")


class HTTPClient:
    """Speaks JSON with one service. `headers` is asked at each call, for what the caller's request passes on.

    `timeout` is seconds for the whole exchange: connecting, headers and body together; a probe of the breaker has at
    most its `probe_timeout`. A session of the caller's own keeps to it only with a `DeadlineAdapter`. A bulkhead in the
    breaker's place limits the exchanges at once.

    Each call may have a `check`: a function of the JSON object that returns what the caller gets, such as a schema's
    `load`. Whatever it raises makes the answer an InvalidResponse, which the breaker counts as failure. Instead of a
    CircuitError, ServiceUnavailable or InvalidResponse the caller gets the `fallback`, a value or a function of the
    error, if there is one. A 4xx is not checked, and always raises ClientErrorResponse. The `headers` of a call go
    before those of the client; its `timeout` holds where it is shorter than the client's. A call that cannot be sent
    as it is raises ValueError, and counts as nothing.
    """

    def __init__(
        self,
        base_url: str,
        timeout: float,
        breaker: CircuitBreaker | Bulkhead,
        session: requests.Session | None = None,
        *,
        headers: Callable[[], Headers] = dict,
    ) -> None:
        self._base_url = _checked(base_url).rstrip("/")
        self._timeout = seconds("timeout", timeout)
        self._breaker = breaker
        self._session = session or _session()
        self._headers = headers

    @overload
    def get_json(
        self, path: str, *, headers: Headers = ..., timeout: float | None = ..., fallback: Fallback[F] | V = ...
    ) -> Json | F | V: ...
    @overload
    def get_json(
        self,
        path: str,
        *,
        check: Callable[[Json], T],
        headers: Headers = ...,
        timeout: float | None = ...,
        fallback: Fallback[F] | V = ...,
    ) -> T | F | V: ...
    def get_json(self, path: str, **options: Any) -> Any:
        """Return the JSON object at a path, its fractions as Decimal. Raises ClientError, CircuitError."""
        return self._call("GET", path, None, **options)

    @overload
    def post_json(
        self, path: str, body: Mapping[str, object], *, headers: Headers = ..., fallback: Fallback[F] | V = ...
    ) -> Json | F | V: ...
    @overload
    def post_json(
        self,
        path: str,
        body: Mapping[str, object],
        *,
        check: Callable[[Json], T],
        headers: Headers = ...,
        timeout: float | None = ...,
        fallback: Fallback[F] | V = ...,
    ) -> T | F | V: ...
    def post_json(self, path: str, body: Mapping[str, object], **options: Any) -> Any:
        """Send a JSON object, return the one that is answered. Raises ClientError, CircuitError."""
        return self._call("POST", path, json.dumps(body, allow_nan=False).encode(), **options)

    def get_json_unguarded(self, path: str, timeout: float) -> Json:
        """Return the JSON object at a path, outside of the breaker and on a new connection, as health checks ask.

        `timeout` is seconds for all of it. Raises ClientError.
        """
        sent = _sendable({"Accept": "application/json", "Connection": "close", **self._headers()})
        with _session() as session:
            status, content = self._exchange(session, "GET", _plain(path), None, sent, timeout=timeout)
        if 400 <= status < 500:
            raise client_error_response(status, content)
        return parse_response(status, content, dict)

    def _call(
        self,
        method: str,
        path: str,
        body: bytes | None,
        *,
        check: Callable[[Json], Any] = dict,
        headers: Headers = _NONE,
        timeout: float | None = None,
        fallback: Any = reraise,
    ) -> Any:
        require_now(check)
        path = _plain(path)
        longest = self._timeout if timeout is None else min(self._timeout, seconds("timeout", timeout))
        sent = _sendable({"Accept": "application/json", **self._headers(), **headers})
        if body is not None:
            sent["Content-Type"] = "application/json"
        try:
            with (
                CallGuard(self._breaker, _is_caller_error) as admitted,
                observe(self._breaker, admitted, method, self._base_url + path, sent) as exchange,
            ):
                limit = self._breaker.config.probe_timeout if admitted.probe else None
                timeout = longest if limit is None else min(longest, limit)
                status, content = self._exchange(
                    self._session, method, path, body, sent, timeout=timeout, exchange=exchange
                )
                answer = None if 400 <= status < 500 else parse_response(status, content, check)
                require_done(answer)
                exchange.ended()
        except (CircuitError, ServiceUnavailable, InvalidResponse) as error:
            return instead(fallback, error)
        if 400 <= status < 500:
            raise client_error_response(status, content)
        return answer

    def _exchange(
        self,
        session: requests.Session,
        method: str,
        path: str,
        body: bytes | None,
        headers: dict[str, str],
        *,
        timeout: float,
        exchange: CallObserver = UNOBSERVED,
    ) -> tuple[int, bytes]:
        """Return status and body: one that never ends is the dependency's failure, too. Raises ServiceUnavailable."""
        try:
            with (
                within(timeout),
                session.request(
                    method,
                    self._base_url + path,
                    data=body,
                    headers=headers,
                    timeout=timeout,
                    allow_redirects=False,
                    stream=True,
                ) as response,
            ):
                exchange.response_received(response.status_code)
                content = response.raw.read(MAX_RESPONSE_BYTES + 1, decode_content=True)
        # A ValueError is a redirect that a session of the caller's own cannot read.
        except (requests.RequestException, HTTPError, ValueError) as error:
            exchange.ended(error)
            if is_caller_error(error) and not isinstance(error, ValueError):
                raise
            raise ServiceUnavailable(type(error).__name__, sent=_sent(error)) from error
        if is_failure(response.status_code):
            raise ServiceUnavailable(f"status {response.status_code}", retry_after=retry_after(response.headers))
        return response.status_code, content


def _checked(base_url: str) -> str:
    try:
        valid = _BASE.fullmatch(base_url) and urlsplit(base_url).port != 0
    except ValueError:
        valid = False
    if not valid:
        raise ConfigError("base_url", "be http:// or https:// with a host, a port up to 65535, and no query", base_url)
    return base_url


def _plain(path: str) -> str:
    if not _PATH.fullmatch(path):
        raise ValueError(f"not a plain absolute path: {path!r}")
    return path


def _session() -> requests.Session:
    session = confined(DeadlineAdapter(pool_connections=1, pool_maxsize=POOL))
    # All callers share it: what the service tells one of them, it must not hear from the next.
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=()))
    return session


def _sendable(headers: dict[str, str]) -> dict[str, str]:
    """Return headers that requests takes. Raises ValueError, without the value, which may be a secret."""
    for name, value in headers.items():
        if not (isinstance(value, str) and _NAME.fullmatch(name) and _VALUE.fullmatch(value)):
            raise ValueError(f"not a header that can be sent: {name!r}")
    return headers


def _is_caller_error(error: BaseException) -> bool:
    if isinstance(error, ClientError):
        return isinstance(error.__cause__, PoolTimeoutError)  # connections that others hold
    return is_caller_error(error)


def _sent(error: Exception) -> bool:
    """Return whether something may have reached the service: a connection that was never made carried nothing."""
    reason = getattr(error.args[0], "reason", None) if error.args else None
    return not isinstance(error, requests.ConnectTimeout) and not isinstance(reason, NewConnectionError)
