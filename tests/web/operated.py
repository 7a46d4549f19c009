"""What the tests of the live page add to the shop: a breaker with a nasty name, and the operator's part of the API."""

from typing import Any

from flask import Blueprint, Flask, request

from cb import Registry, State

MARKUP = "<img src=x onerror=alert(1)>"
HELD = {"force-open": State.FORCED_OPEN, "disable": State.DISABLED, "metrics-only": State.METRICS_ONLY}


def equip(app: Flask) -> None:
    registry: Registry = app.extensions["circuit_breakers"].registry
    registry.get(MARKUP)
    if "operator" not in app.blueprints:
        app.register_blueprint(_operator(registry))


def _operator(registry: Registry) -> Blueprint:
    """Return what the page needs of the operator's API, where the service has none of its own."""
    bp = Blueprint("operator", __name__, url_prefix="/api/v1/circuit-breaker")

    @bp.post("/<name>/<any('force-open', 'close', 'disable', 'metrics-only', 'reset'):action>")
    def act(name: str, action: str) -> Any:
        breaker, reason = registry.find(name), request.get_json()["reason"]
        if breaker is None:
            return {"detail": f"there is no breaker {name}"}, 404
        if action in HELD:
            breaker.hold(HELD[action], reason=reason)
        else:
            breaker.reset(reason=reason)
        return {"state": breaker.state}

    return bp
