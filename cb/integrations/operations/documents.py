"""Documents of the state of all breakers, and of the data of the live page."""

from typing import Any

from cb.breaker import CircuitBreaker, admission_of
from cb.clocks import timestamp, wall
from cb.health import read_health
from cb.ledger.fleet_view import FleetView
from cb.log import Log
from cb.states import State

from .access import may_operate
from .extension_state import ExtensionState
from .panel import Panel
from .request import Request

log = Log(__name__)

#: entries of the log of state changes, the latest
_EVENTS = 50
_HEALTH_BY_STATE = {
    State.HALF_OPEN: "DEGRADED",
    State.OPEN: "DOWN",
    State.FORCED_OPEN: "DOWN",
}


def status(state: ExtensionState) -> dict[str, Any]:
    """Return the breakers of an app, the scope in which they are shared, and the fleet if there is one."""
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


def page_data(state: ExtensionState, request: Request) -> dict[str, Any]:
    """Return the data of the live page: the status, the health of the dependencies, events, and the panels' data."""
    return {
        **{panel.name: _data_of(panel) for panel in state.panels},
        **status(state),
        "health": {breaker.name: dependency(breaker) for breaker in state.registry},
        "events": [each.as_log_entry() for each in state.registry.ledger.history()[-_EVENTS:]],
        # If the operators have a token, the page asks for it before it shows controls.
        "operator": may_operate(state, request),
    }


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


def _data_of(panel: Panel) -> dict[str, Any]:
    try:
        return dict(panel.data())
    except Exception as error:  # the breakers are shown all the same
        log.exception("panel %r of the live page has no data", panel.name)
        return {"unavailable": type(error).__name__}
