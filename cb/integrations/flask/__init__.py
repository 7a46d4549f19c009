"""The Flask extension: `CircuitBreakers(app)`. Needs Flask, and prometheus_client for `metrics=True`."""

from cb.extras import needs

with needs("flask", "flask", "werkzeug"):
    from .extension import CircuitBreakers
    from .extension_state import ExtensionState
    from .panel import Panel
    from .problem import Problem
    from .request_id import request_id

__all__ = ["CircuitBreakers", "ExtensionState", "Panel", "Problem", "request_id"]
