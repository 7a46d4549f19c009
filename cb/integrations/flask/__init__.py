"""The Flask extension: `CircuitBreakers(app)`. Needs Flask, and prometheus_client for `metrics=True`."""

from cb.extras import needs

with needs("flask", "flask", "werkzeug"):
    from cb.integrations.operations.extension_state import ExtensionState
    from cb.integrations.operations.panel import Panel
    from cb.integrations.operations.problem import Problem

    from .current import request_id
    from .extension import CircuitBreakers
    from .responses import problem_response

__all__ = ["CircuitBreakers", "ExtensionState", "Panel", "Problem", "problem_response", "request_id"]
