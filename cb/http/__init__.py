"""HTTP calls through a breaker: a JSON client, a guarded session, and an adapter for any `requests.Session`."""

from .adapter import (
    BulkheadFullConnectionError,
    CircuitBreakerAdapter,
    CircuitOpenConnectionError,
    FailingStatus,
    origin,
)
from .body import BodyTooLarge
from .client import HTTPClient
from .deadline import DeadlineAdapter, PoolTimeoutError
from .responses import BadAnswer, ClientError, Json, Refused, ServiceUnavailable
from .session import guarded_session
from .timed import within

__all__ = [
    "BadAnswer",
    "BodyTooLarge",
    "BulkheadFullConnectionError",
    "CircuitBreakerAdapter",
    "CircuitOpenConnectionError",
    "ClientError",
    "DeadlineAdapter",
    "FailingStatus",
    "HTTPClient",
    "Json",
    "PoolTimeoutError",
    "Refused",
    "ServiceUnavailable",
    "guarded_session",
    "origin",
    "within",
]
