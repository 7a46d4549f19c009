"""A client that exchanges JSON with one service, through its breaker."""

import json
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Self, TypeVar, overload
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import HTTPError, NewConnectionError

from cb import Call, CircuitError, ConfigError, Duration, Guard, Policy
from cb.fallback import V, instead, reraise
from cb.state.deferred import require_done, require_now

from .adapter import POOL_SIZE
from .body import too_large
from .caller_errors import is_caller_error
from .connections import within
from .deadline import DeadlineAdapter, PoolTimeoutError
from .errors import BodyTooLargeError
from .exchange import answered
from .messages import Limits, described_reason, reason_of
from .observer import UNOBSERVED, CallObserver, observe, probe_timeout_of
from .older_urllib3 import bound_reads
from .responses import (
    MAX_RESPONSE_BYTES,
    ClientError,
    ClientErrorResponse,
    InvalidResponse,
    Json,
    ServiceUnavailable,
    client_error_response,
    is_failure,
    is_rejection,
    parse_response,
    retry_after,
)
from .session import confined
from .texts import quoted, shown_origin, status_text
from .timeouts import body_limit, seconds

T = TypeVar("T")
F = TypeVar("F")
#: a function that returns the result of a call in place of an error
Fallback = Callable[[ClientError | CircuitError], F]
Headers = Mapping[str, str]

_NONE: Headers = MappingProxyType({})
_BASE = re.compile(r"https?://[^/?#\s]+(/[^?#\s]*)?", re.ASCII | re.IGNORECASE)
# requests would resolve a segment `..`, quoted or not, and call another path.
_PATH = re.compile(r"(/(?!\.\.?(/|\Z))[A-Za-z0-9._~-]+)+", re.ASCII)
_NAME = re.compile(r"[!#$%&'*+.^_`|~A-Za-z0-9-]+", re.ASCII)
_VALUE = re.compile(r"(?!\s)[\t\x20-\x7e\x80-\xff]*")


class _ValidResponse(BaseException):
    """Carries a 4xx past retry, cache and fallback of a policy, which handle instances of Exception."""

    def __init__(self, error: ClientErrorResponse) -> None:
        self.error = error


class HTTPClient:
    """A client that exchanges JSON with one service. It may be shared by threads, and keeps no cookies.

    Each call takes these options:

    - `check`, a function of the JSON object that returns the result, such as a schema's `load`. Any exception of it
      raises InvalidResponse, which the breaker counts as a failure.
    - `fallback`, a value or a function of the error, in place of a CircuitError, ServiceUnavailable or
      InvalidResponse. A 4xx is a valid response: it is not checked, and always raises ClientErrorResponse.
    - `headers`, which override those of the client.
    - `timeout`, where it is shorter than the client's.

    A call that cannot be sent as it is raises ValueError, and counts as neither success nor failure.

    Args:
        base_url: URL of the service: http or https, a host, and optionally a port and a path.
        timeout: Time limit for a request and its response, in seconds or as a timedelta. A probe takes at most its
            breaker's `probe_timeout`.
        breaker: Breaker, bulkhead or policy before the calls. The cache of a policy gets method, path and body as key.
        session: Session to use, which stays open; it keeps to `timeout` only with a `DeadlineAdapter`. By default the
            client has a session of its own.
        headers: Function that returns the headers of a call, for headers that are passed on from an incoming request.
        max_body_bytes: Largest response, in bytes after decompression. A longer one raises InvalidResponse, and counts
            as neither success nor failure.

    Raises:
        ConfigError: The URL, the timeout or the size is invalid.
    """

    def __init__(
        self,
        base_url: str,
        timeout: Duration,
        breaker: Guard,
        session: requests.Session | None = None,
        *,
        headers: Callable[[], Headers] = dict,
        max_body_bytes: int = MAX_RESPONSE_BYTES,
    ) -> None:
        self._base_url = _checked_base_url(base_url).rstrip("/")
        self._timeout = seconds("timeout", timeout)
        self._guard = breaker
        self._owns_session = session is None
        self._session = session or _session()
        self._headers = headers
        self._max_body_bytes = body_limit(max_body_bytes)

    def __repr__(self) -> str:
        parts = urlsplit(self._base_url)
        shown = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        return f"<HTTPClient {shown!r}, timeout {self._timeout:g} s, {self._guard!r}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections of the client's own session. A later call opens them again."""
        if self._owns_session:
            self._session.close()

    @overload
    def get_json(
        self, path: str, *, headers: Headers = ..., timeout: Duration | None = ..., fallback: Fallback[F] | V = ...
    ) -> Json | F | V: ...
    @overload
    def get_json(
        self,
        path: str,
        *,
        check: Callable[[Json], T],
        headers: Headers = ...,
        timeout: Duration | None = ...,
        fallback: Fallback[F] | V = ...,
    ) -> T | F | V: ...
    def get_json(self, path: str, **options: Any) -> Any:
        """Return the JSON object at a path; numbers with a fraction are Decimal.

        Raises:
            ClientError: The call failed, or the response is a 4xx.
            CircuitError: The call was rejected.
        """
        return self._call("GET", path, None, **options)

    @overload
    def post_json(
        self,
        path: str,
        body: Mapping[str, object],
        *,
        headers: Headers = ...,
        timeout: Duration | None = ...,
        fallback: Fallback[F] | V = ...,
    ) -> Json | F | V: ...
    @overload
    def post_json(
        self,
        path: str,
        body: Mapping[str, object],
        *,
        check: Callable[[Json], T],
        headers: Headers = ...,
        timeout: Duration | None = ...,
        fallback: Fallback[F] | V = ...,
    ) -> T | F | V: ...
    def post_json(self, path: str, body: Mapping[str, object], **options: Any) -> Any:
        """Send a JSON object, and return the one of the response.

        Raises:
            ClientError: The call failed, or the response is a 4xx.
            CircuitError: The call was rejected.
        """
        return self._call("POST", path, json.dumps(body, allow_nan=False).encode(), **options)

    def get_json_unguarded(self, path: str, timeout: Duration) -> Json:
        """Return the JSON object at a path, past the breaker and on a new connection, for health checks.

        Args:
            path: Path below the base URL.
            timeout: Time limit for the request and its response.

        Raises:
            ClientError: The call failed, or the response is a 4xx.
        """
        headers = _checked_headers({"Accept": "application/json", "Connection": "close", **self._headers()})
        limit = seconds("timeout", timeout)
        try:
            with _session() as session:
                status, content = self._exchange(session, "GET", _checked_path(path), None, headers, timeout=limit)
            if is_rejection(status):
                raise client_error_response(status, content)
            return parse_response(status, content, dict)
        except ClientError as error:
            self._name(error, "GET")
            raise

    def _name(self, error: BaseException, method: str) -> None:
        """Name method and origin in an error of a call."""
        if isinstance(error, ClientError) and not error.target:
            error.target = f"{method} {shown_origin(self._base_url)}"

    def _call(
        self,
        method: str,
        path: str,
        body: bytes | None,
        *,
        check: Callable[[Json], Any] = dict,
        headers: Headers = _NONE,
        timeout: Duration | None = None,
        fallback: Any = reraise,
    ) -> Any:
        require_now(check)
        path = _checked_path(path)
        longest = self._timeout if timeout is None else min(self._timeout, seconds("timeout", timeout))
        sent = _checked_headers({"Accept": "application/json", **self._headers(), **headers})
        if body is not None:
            sent["Content-Type"] = "application/json"

        def attempt(method: str, path: str, body: bytes | None) -> Any:
            return self._attempt(method, path, body, check=check, headers=sent, timeout=longest)

        around = self._guard.around if isinstance(self._guard, Policy) else _call
        try:
            return around(attempt, method, path, body)
        except _ValidResponse as response:
            raise response.error from None
        except (CircuitError, ServiceUnavailable, InvalidResponse) as error:
            return instead(fallback, error)

    def _attempt(
        self,
        method: str,
        path: str,
        body: bytes | None,
        *,
        check: Callable[[Json], Any],
        headers: dict[str, str],
        timeout: float,
    ) -> Any:
        guard = self._guard
        call = guard.attempt() if isinstance(guard, Policy) else guard.begin()
        call.enclose()
        try:
            with observe(guard, call, method, self._base_url + path, headers) as observer:
                limit = _limit(guard, call, timeout)
                status, content = self._exchange(
                    self._session, method, path, body, headers, timeout=limit, observer=observer
                )
                is_client_error = is_rejection(status)
                result = None if is_client_error else parse_response(status, content, check)
                require_done(result)
                observer.ended()
        except BaseException as error:
            self._name(error, method)  # first: the breaker keeps the text of a failure
            if isinstance(error.__cause__, BodyTooLargeError):
                answered(call)
            elif _is_caller_error(error):
                call.discard()
            else:
                call.fail(error)
            raise
        call.succeed()
        if is_client_error:
            rejection = client_error_response(status, content)
            self._name(rejection, method)
            raise _ValidResponse(rejection)
        return result

    def _exchange(
        self,
        session: requests.Session,
        method: str,
        path: str,
        body: bytes | None,
        headers: dict[str, str],
        *,
        timeout: float,
        observer: CallObserver = UNOBSERVED,
    ) -> tuple[int, bytes]:
        """Return status and body. Raises ServiceUnavailable, also for a body that does not end in time."""
        is_answered = False
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
                is_answered = True
                observer.response_received(response.status_code)
                content = _read(response.raw, self._max_body_bytes + 1)
        # A session of the caller's own raises ValueError for a redirect that it cannot parse.
        except (requests.RequestException, HTTPError, ValueError) as error:
            observer.ended(error)
            if is_caller_error(error) and not isinstance(error, ValueError):
                raise
            reason = _reason(error, timeout, answered=is_answered)
            raise ServiceUnavailable(reason, sent=_may_be_sent(error)) from error
        if is_failure(response.status_code):
            wait = retry_after(response.headers)
            raise ServiceUnavailable(status_text(response.status_code), retry_after=wait, status=response.status_code)
        if len(content) > self._max_body_bytes:
            if 200 <= response.status_code < 300:
                limit = too_large(response.raw, self._max_body_bytes, response.request)
                raise InvalidResponse(limit.reason, response.status_code) from limit
            content = b""
        return response.status_code, content


def _call(fn: Callable[..., Any], *args: Any) -> Any:
    return fn(*args)


def _limit(guard: Guard, call: Call, timeout: float) -> float:
    limit = probe_timeout_of(guard) if call.probe else None
    return timeout if limit is None else min(timeout, limit)


def _checked_base_url(base_url: str) -> str:
    try:
        valid = _BASE.fullmatch(base_url) and urlsplit(base_url).port != 0
    except ValueError:
        valid = False
    if not valid:
        raise ConfigError("base_url", "be http:// or https:// with a host, a port up to 65535, and no query", base_url)
    return base_url


def _checked_path(path: str) -> str:
    if not _PATH.fullmatch(path):
        raise ValueError(f"not a plain absolute path: {path!r}")
    return path


def _session() -> requests.Session:
    return confined(DeadlineAdapter(pool_connections=1, pool_maxsize=POOL_SIZE))


def _checked_headers(headers: dict[str, str]) -> dict[str, str]:
    """Return headers that requests can send. The ValueError for others leaves out the value, which may be secret."""
    for name, value in headers.items():
        if not (isinstance(value, str) and _NAME.fullmatch(name) and _VALUE.fullmatch(value)):
            raise ValueError(f"not a header that can be sent: {name!r}")
    return headers


def _is_caller_error(error: BaseException) -> bool:
    if isinstance(error, ClientError):
        return isinstance(error.__cause__, PoolTimeoutError)  # the connections are held by other calls
    return is_caller_error(error)


def _read(raw: Any, longest: int) -> bytes:
    """Return the body of a response, or as much of it as shows that it is as long as `longest`."""
    bound_reads(raw)
    content = bytearray()
    while len(content) < longest and (part := raw.read(min(longest - len(content), 65_536), decode_content=True)):
        content += part
    return bytes(content)


def _reason(error: Exception, timeout: float, *, answered: bool) -> str:
    if isinstance(error, BodyTooLargeError):  # of an adapter of the caller's own
        return error.reason
    if isinstance(error, ValueError) and is_caller_error(error):
        return quoted(f"{type(error).__name__}: {error}")
    return described_reason(error) or reason_of(error, Limits(timeout), answered=answered)


def _may_be_sent(error: Exception) -> bool:
    """Return False if the connection was never established, so that nothing was sent."""
    reason = getattr(error.args[0], "reason", None) if error.args else None
    return not isinstance(error, requests.ConnectTimeout) and not isinstance(reason, NewConnectionError)
