"""HTTP calls through a breaker: a JSON client, and an adapter for any `requests.Session`."""

from .adapter import CircuitBreakerAdapter, CircuitOpenConnectionError, FailingStatus, origin
from .answer import BadAnswer, ClientError, Json, Refused, ServiceUnavailable
from .client import HTTPClient

__all__ = [
    "BadAnswer",
    "CircuitBreakerAdapter",
    "CircuitOpenConnectionError",
    "ClientError",
    "FailingStatus",
    "HTTPClient",
    "Json",
    "Refused",
    "ServiceUnavailable",
    "origin",
]
