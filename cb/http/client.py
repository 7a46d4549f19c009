"""A client that speaks JSON with one service, through its breaker."""

import json
import re
from collections.abc import Callable, Mapping

import requests
from urllib3.exceptions import HTTPError, NewConnectionError

from cb import Bulkhead, CircuitBreaker

from .answer import LARGEST_ANSWER, BadAnswer, Json, Refused, ServiceUnavailable, failing, parse, retry_after
from .deadline import DeadlineAdapter, within

_POOL = 64  # connections kept per dependency: at least the threads of a worker
# A segment that is `..` would make requests call another path, quoted or not.
_PATH = re.compile(r"(/(?!\.\.?(/|\Z))[A-Za-z0-9._~-]+)+", re.ASCII)


class HTTPClient:
    """Speaks JSON with one service. `headers` is asked at each call, for what the caller's request passes on.

    `timeout` is seconds for the whole exchange: connecting, headers and body together; a probe of the breaker has at
    most its `probe_timeout`. A session of the caller's own keeps to it only with a `DeadlineAdapter`. A bulkhead in the
    breaker's place limits the exchanges at once.
    """

    def __init__(
        self,
        base_url: str,
        timeout: float,
        breaker: CircuitBreaker | Bulkhead,
        session: requests.Session | None = None,
        *,
        headers: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        self._base_url = base_url.rstrip("/")
        self._timeout = timeout
        self._breaker = breaker
        self._session = session or _session()
        self._headers = headers

    def get_json(self, path: str) -> Json:
        """Return the JSON object at a path, its fractions as Decimal. Raises ClientError, CircuitError."""
        return self._call("GET", path, None)

    def post_json(self, path: str, body: Mapping[str, object]) -> Json:
        """Send a JSON object, return the one that is answered. Raises ClientError, CircuitError."""
        return self._call("POST", path, json.dumps(body).encode())

    def _call(self, method: str, path: str, body: bytes | None) -> Json:
        if not _PATH.fullmatch(path):
            raise ValueError(f"not a plain absolute path: {path!r}")
        headers = {"Accept": "application/json", **self._headers()}
        if body is not None:
            headers["Content-Type"] = "application/json"
        with self._breaker.block() as admitted:
            limit = self._breaker.config.probe_timeout if admitted.probe else None
            timeout = self._timeout if limit is None else min(self._timeout, limit)
            status, answer = self._exchange(method, path, body, headers, timeout)
        if status >= 400:
            raise Refused(status, answer)
        return answer

    def _exchange(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str], timeout: float
    ) -> tuple[int, Json]:
        """Return status and answer, its body read: a body that never ends is the dependency's failure, too."""
        try:
            with (
                within(timeout),
                self._session.request(
                    method,
                    self._base_url + path,
                    data=body,
                    headers=headers,
                    timeout=timeout,
                    allow_redirects=False,
                    stream=True,
                ) as response,
            ):
                content = response.raw.read(LARGEST_ANSWER + 1, decode_content=True)
        except (requests.RequestException, HTTPError) as error:
            raise ServiceUnavailable(type(error).__name__, sent=_sent(error)) from error
        status = response.status_code
        if failing(status):
            raise ServiceUnavailable(f"status {status}", retry_after=retry_after(response.headers))
        try:
            return status, parse(content)
        except BadAnswer:
            if 400 <= status < 500:
                return status, {}
            raise


def _session() -> requests.Session:
    session = requests.Session()
    session.trust_env = False  # else a proxy of the environment gets even the calls to 127.0.0.1
    for scheme in ("http://", "https://"):
        session.mount(scheme, DeadlineAdapter(pool_connections=1, pool_maxsize=_POOL))
    return session


def _sent(error: Exception) -> bool:
    """Return whether something may have reached the service: a connection that was never made carried nothing."""
    reason = getattr(error.args[0], "reason", None) if error.args else None
    return not isinstance(error, requests.ConnectTimeout) and not isinstance(reason, NewConnectionError)
