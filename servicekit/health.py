"""Health of a service: `/api/v1/health`, with `live` and `ready` below it."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from flask import Blueprint, Flask, current_app
from marshmallow import INCLUDE, fields

from cb import State
from cb.integrations.flask.current import circuit_breakers
from cb.integrations.operations.documents import dependency
from cb.log import Log

from .openapi import ResponseSpec, operation
from .response_schemas import PassthroughSchema

log = Log(__name__)

bp = Blueprint("health", __name__, url_prefix="/api/v1/health")

#: returns {"status": "UP" | "DEGRADED" | "DOWN"} and further members
Check = Callable[[], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class _Component:
    check: Check
    own: bool


class ComponentSchema(PassthroughSchema):
    """A component of a service. Its check may add members."""

    class Meta:
        unknown = INCLUDE

    status = fields.String(required=True, metadata={"enum": ["UP", "DEGRADED", "DOWN"]})
    reason = fields.String()
    circuit = fields.String(metadata={"enum": [state.value for state in State]})
    health = fields.String(metadata={"enum": ["UP", "DOWN", "UNKNOWN"], "description": "Latest result of its monitor."})
    checked_seconds_ago = fields.Float()


class HealthSchema(PassthroughSchema):
    """The health of a service."""

    status = fields.String(required=True, metadata={"enum": ["UP", "DEGRADED", "DOWN"]})
    service = fields.String(required=True)
    time = fields.String(required=True, metadata={"format": "date-time"})
    components = fields.Dict(fields.String(), fields.Nested(ComponentSchema), required=True)


_UP = ResponseSpec("The service works; a component may be degraded or down.", HealthSchema())
_DOWN = ResponseSpec("The service cannot work.", HealthSchema())


class HealthEndpoint:
    """The health checks of a service."""

    def __init__(self) -> None:
        self._components: dict[str, _Component] = {}

    def add(self, name: str, check: Check, *, ready: bool = False) -> None:
        """Add a check. If one that is required for readiness is DOWN, so is the service; otherwise it is DEGRADED.

        Args:
            name: Name of the component.
            check: Returns its status.
            ready: True if the service cannot work without the component.
        """
        self._components[name] = _Component(check, ready)

    def report(self, *, only_own: bool = False) -> tuple[str, dict[str, dict[str, Any]]]:
        """Return the status of the service and of its components, or only of those required for readiness."""
        components = {name: each for name, each in self._components.items() if each.own or not only_own}
        found = {name: _run(name, each.check) for name, each in components.items()}
        if any(found[name]["status"] == "DOWN" for name, each in components.items() if each.own):
            return "DOWN", found
        if not only_own:
            for breaker in circuit_breakers().registry:
                found[breaker.name] = dependency(breaker, found.get(breaker.name))
        healthy = all(component["status"] == "UP" for component in found.values())
        return "UP" if healthy else "DEGRADED", found


def init_app(app: Flask) -> None:
    """Add the routes to an app."""
    app.extensions["health"] = HealthEndpoint()
    app.register_blueprint(bp)


@bp.get("")
@operation("readHealth", tag="health", responses={200: _UP, 503: _DOWN})
def health() -> Any:
    """Read the health of the service and of its components."""
    return _answer(*_health().report())


@bp.get("/live")
@operation("readLiveness", tag="health", responses={200: ResponseSpec("The process responds.", HealthSchema())})
def live() -> Any:
    """Liveness: the process responds. Nothing else is checked."""
    return _answer("UP", {})


@bp.get("/ready")
@operation("readReadiness", tag="health", responses={200: _UP, 503: _DOWN})
def ready() -> Any:
    """Readiness: whether everything this service depends on is up.

    Circuits are not considered: otherwise one failing dependency would take the service out of rotation.
    """
    return _answer(*_health().report(only_own=True))


def _answer(status: str, components: dict[str, dict[str, Any]]) -> Any:
    body = {
        "status": status,
        "service": circuit_breakers().service,
        "time": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "components": components,
    }
    return body, 503 if status == "DOWN" else 200


def _run(name: str, check: Check) -> dict[str, Any]:
    try:
        return dict(check())
    except Exception as error:
        log.exception("health check %r failed", name)
        return {"status": "DOWN", "reason": type(error).__name__}


def _health() -> HealthEndpoint:
    found: HealthEndpoint = current_app.extensions["health"]
    return found
