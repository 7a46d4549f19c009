"""HTTP calls through a breaker, with requests, httpx or aiohttp.

Each name is imported when it is first used, and needs the library that it is for: extra `http` for requests,
`httpx`, or `aiohttp`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from cb.extras import needs

from .errors import BodyTooLargeError, FailureStatusError
from .observer import CallObserver, HTTPObserver
from .responses import ClientError, ClientErrorResponse, InvalidResponse, Json, ServiceUnavailable

if TYPE_CHECKING:
    from .adapter import (
        BulkheadFullConnectionError,
        CircuitBreakerAdapter,
        CircuitOpenConnectionError,
        RateLimitedConnectionError,
        origin,
    )
    from .aiohttp_errors import BulkheadFullClientError, CircuitOpenClientError, RateLimitedClientError
    from .aiohttp_middleware import circuit_breaker_middleware
    from .client import HTTPClient
    from .connections import within
    from .deadline import DeadlineAdapter, PoolTimeoutError
    from .httpx_async_transport import AsyncCircuitBreakerTransport
    from .httpx_errors import BulkheadFullTransportError, CircuitOpenTransportError, RateLimitedTransportError
    from .httpx_transport import CircuitBreakerTransport
    from .session import guarded_session

__all__ = [
    "AsyncCircuitBreakerTransport",
    "BodyTooLargeError",
    "BulkheadFullClientError",
    "BulkheadFullConnectionError",
    "BulkheadFullTransportError",
    "CallObserver",
    "CircuitBreakerAdapter",
    "CircuitBreakerTransport",
    "CircuitOpenClientError",
    "CircuitOpenConnectionError",
    "CircuitOpenTransportError",
    "ClientError",
    "ClientErrorResponse",
    "DeadlineAdapter",
    "FailureStatusError",
    "HTTPClient",
    "HTTPObserver",
    "InvalidResponse",
    "Json",
    "PoolTimeoutError",
    "RateLimitedClientError",
    "RateLimitedConnectionError",
    "RateLimitedTransportError",
    "ServiceUnavailable",
    "circuit_breaker_middleware",
    "guarded_session",
    "origin",
    "within",
]

#: extra, packages, and the modules with their names, of each library
_LIBRARIES: tuple[tuple[str, tuple[str, ...], dict[str, tuple[str, ...]]], ...] = (
    (
        "http",
        ("requests", "urllib3"),
        {
            "adapter": (
                "BulkheadFullConnectionError",
                "CircuitBreakerAdapter",
                "CircuitOpenConnectionError",
                "RateLimitedConnectionError",
                "origin",
            ),
            "client": ("HTTPClient",),
            "connections": ("within",),
            "deadline": ("DeadlineAdapter", "PoolTimeoutError"),
            "session": ("guarded_session",),
        },
    ),
    (
        "httpx",
        ("httpx", "httpcore"),
        {
            "httpx_async_transport": ("AsyncCircuitBreakerTransport",),
            "httpx_errors": ("BulkheadFullTransportError", "CircuitOpenTransportError", "RateLimitedTransportError"),
            "httpx_transport": ("CircuitBreakerTransport",),
        },
    ),
    (
        "aiohttp",
        ("aiohttp",),
        {
            "aiohttp_errors": ("BulkheadFullClientError", "CircuitOpenClientError", "RateLimitedClientError"),
            "aiohttp_middleware": ("circuit_breaker_middleware",),
        },
    ),
)


def __getattr__(name: str) -> Any:
    for extra, packages, modules in _LIBRARIES:
        for module, names in modules.items():
            if name in names:
                with needs(extra, *packages):
                    found = getattr(_imported(module), name)
                globals()[name] = found
                return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _imported(module: str) -> Any:
    try:
        return import_module(f".{module}", __name__)
    except AttributeError as error:  # else `from cb.http import` would only say that there is no such name
        raise ImportError(f"{__name__}.{module} cannot be imported: {error}") from error


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
