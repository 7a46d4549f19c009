"""The Flask extension: `CircuitBreakers(app)`, operator routes, status, live page and metrics."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .extension import CircuitBreakers

__all__ = ["CircuitBreakers"]


def __getattr__(name: str) -> Any:
    # Not above: the service kit imports parts of this package, and the extension imports parts of that.
    if name == "CircuitBreakers":
        from .extension import CircuitBreakers

        return CircuitBreakers
    raise AttributeError(name)
