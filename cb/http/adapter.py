"""An adapter that puts breakers before the requests of any `requests.Session`."""

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter

from cb import CircuitOpenError, Registry

from .answer import failing, retry_after


class FailingStatus(Exception):
    """A response that counts as failure."""

    def __init__(self, response: requests.Response) -> None:
        super().__init__(f"status {response.status_code}")
        self.response = response
        self.retry_after = retry_after(response.headers)


class CircuitOpenConnectionError(CircuitOpenError, requests.exceptions.ConnectionError):
    """A request that a `CircuitBreakerAdapter` refused, for those who catch what requests raises."""

    def __init__(self, name: str, retry_after: float | None, request: requests.PreparedRequest) -> None:
        CircuitOpenError.__init__(self, name, retry_after)
        self.request = request
        self.response = None


class CircuitBreakerAdapter(HTTPAdapter):
    """Puts breakers before the requests of a session: `session.mount("https://", CircuitBreakerAdapter(registry))`.

    Each scheme, host and port has its own breaker, or `name` says which: a name, or a function of the request. A
    response with a failing status counts as failure and is returned all the same.
    """

    def __init__(
        self,
        registry: Registry,
        name: str | Callable[[requests.PreparedRequest], str] | None = None,
        **options: Any,
    ) -> None:
        self._registry = registry
        self._name = name or origin
        super().__init__(**options)

    def send(
        self, request: requests.PreparedRequest, stream: bool = False, *args: Any, **kwargs: Any
    ) -> requests.Response:
        """Send a request. Raises CircuitOpenConnectionError, and what HTTPAdapter raises."""
        name = self._name if isinstance(self._name, str) else self._name(request)

        def exchange() -> requests.Response:
            response = HTTPAdapter.send(self, request, stream, *args, **kwargs)
            if failing(response.status_code):
                raise FailingStatus(response)
            if not stream:
                response.content  # noqa: B018 - reads the body while the breaker watches
            return response

        try:
            return self._registry.get(name).call(exchange)
        except FailingStatus as failure:
            return failure.response
        except CircuitOpenError as error:
            raise CircuitOpenConnectionError(error.name, error.retry_after, request) from error


def origin(request: requests.PreparedRequest) -> str:
    """Return scheme, host and port of a request, as in `https://example.com:443`."""
    parts = urlsplit(request.url or "")
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{host}:{parts.port or {'http': 80, 'https': 443}.get(parts.scheme)}"
