"""The state of all breakers: `GET /circuit-breakers/status`."""

from typing import Any

from flask import Blueprint

from cb.breaker import CircuitBreaker, admission_of
from cb.clocks import timestamp, wall
from cb.health import read_health
from cb.ledger.fleet_view import FleetView
from cb.states import State

from .access import require_reader
from .extension_state import circuit_breakers

bp = Blueprint("circuit-breaker", __name__)

_HEALTH_BY_STATE = {
    State.HALF_OPEN: "DEGRADED",
    State.OPEN: "DOWN",
    State.FORCED_OPEN: "DOWN",
}


@bp.get("/status")
def status() -> dict[str, Any]:
    """Return the state of all breakers, the same from any worker."""
    require_reader()
    return report()


def report() -> dict[str, Any]:
    """Return the breakers of the current app, the scope in which they are shared, and the fleet if there is one."""
    state = circuit_breakers()
    ledger = state.registry.ledger
    fleet = ledger.fleet()
    now = wall()
    return {
        "service": state.service,
        "scope": "fleet" if fleet and fleet.connected else ledger.scope,
        "workers": ledger.workers(),
        "programs": ledger.programs,
        **({"fleet": _fleet(fleet)} if fleet else {}),
        **({"degraded": ledger.degraded} if ledger.degraded else {}),
        "time": timestamp(now),
        "breakers": {each.name: each.as_dict(now) for each in state.registry.snapshots()},
    }


def dependencies() -> dict[str, dict[str, Any]]:
    """Return the health of each dependency by the name of its breaker, without calling it."""
    return {breaker.name: dependency(breaker) for breaker in circuit_breakers().registry}


def dependency(breaker: CircuitBreaker, component: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the health of a dependency: its circuit, its monitor's latest result, and the worse of both as `status`.

    A component that a health check has described keeps its members, and its status unless the monitor found it down.
    """
    circuit = admission_of(breaker).circuit
    state, health = circuit.state, read_health(circuit.head, circuit.clock())
    described = dict(component or {"status": _HEALTH_BY_STATE.get(state, "UP")}, circuit=state.value)
    if health:
        described["health"] = "UNKNOWN" if health.up is None else "UP" if health.up else "DOWN"
        described["checked_seconds_ago"] = round(health.ago, 1)
        if health.up is False:
            described["status"] = "DOWN"
    return described


def _fleet(view: FleetView) -> dict[str, Any]:
    return {
        "connected": view.connected,
        "hosts": view.hosts,
        "last_exchange_seconds": None if view.age is None else round(view.age, 1),
        "apart": list(view.unreachable),
    }
