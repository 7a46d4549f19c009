"""The Flask extension: `CircuitBreakers(app)`, operator routes, status, live page and metrics."""

from .extension import CircuitBreakers

__all__ = ["CircuitBreakers"]
