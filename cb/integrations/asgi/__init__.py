"""Circuit breakers for ASGI: `CircuitBreakers(app)` for Starlette, FastAPI and plain ASGI.

Needs the standard library alone, and prometheus_client for `metrics=True`.
"""

from cb.integrations.operations.panel import Panel
from cb.integrations.operations.problem import Problem

from .extension import CircuitBreakers

__all__ = ["CircuitBreakers", "Panel", "Problem"]
