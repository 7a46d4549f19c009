"""HTTP calls through a breaker: a JSON client, a guarded session, and an adapter for any `requests.Session`."""

from cb.extras import needs

with needs("http", "requests", "urllib3"):
    from .adapter import (
        BulkheadFullConnectionError,
        CircuitBreakerAdapter,
        CircuitOpenConnectionError,
        FailureStatusError,
        RateLimitedConnectionError,
        origin,
    )
    from .body import BodyTooLargeError
    from .client import HTTPClient
    from .connections import within
    from .deadline import DeadlineAdapter, PoolTimeoutError
    from .observer import CallObserver, HTTPObserver
    from .responses import ClientError, ClientErrorResponse, InvalidResponse, Json, ServiceUnavailable
    from .session import guarded_session

__all__ = [
    "BodyTooLargeError",
    "BulkheadFullConnectionError",
    "CallObserver",
    "CircuitBreakerAdapter",
    "CircuitOpenConnectionError",
    "ClientError",
    "ClientErrorResponse",
    "DeadlineAdapter",
    "FailureStatusError",
    "HTTPClient",
    "HTTPObserver",
    "InvalidResponse",
    "Json",
    "PoolTimeoutError",
    "RateLimitedConnectionError",
    "ServiceUnavailable",
    "guarded_session",
    "origin",
    "within",
]
