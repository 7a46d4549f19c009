"""The breakers of a Django project, with middleware, routes and, in `.db`, database backends. Needs Django alone."""

from cb.extras import needs

with needs("django", "django"):
    from cb.integrations.operations.extension_state import ExtensionState
    from cb.integrations.operations.panel import Panel

    from .current import Breakers, breakers
    from .middleware import CircuitBreakerMiddleware

__all__ = ["Breakers", "CircuitBreakerMiddleware", "ExtensionState", "Panel", "breakers"]
