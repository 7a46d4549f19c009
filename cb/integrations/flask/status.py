"""What the breakers of a service are up to: `/api/v1/circuit-breaker/status`."""

from datetime import UTC, datetime
from typing import Any

from flask import Blueprint

from cb.document import describe, time_text
from cb.ledger.fleet_view import FleetView
from servicekit.breaker_schemas import StatusSchema
from servicekit.openapi import ResponseSpec, operation

from .extension_state import circuit_breakers

bp = Blueprint("circuit-breaker", __name__, url_prefix="/api/v1/circuit-breaker")


@bp.get("/status")
@operation("readStatus", tag="circuit breakers", responses={200: ResponseSpec("All breakers by name.", StatusSchema())})
def status() -> Any:
    """Tell how the breakers are, the same from any worker."""
    return report()


def report() -> dict[str, Any]:
    """Return what the status says."""
    known = circuit_breakers()
    ledger = known.registry.ledger
    fleet = ledger.fleet()
    return {
        "service": known.service,
        "scope": "fleet" if fleet and fleet.connected else ledger.scope,
        "workers": ledger.workers(),
        **({"fleet": _fleet(fleet)} if fleet else {}),
        **({"degraded": ledger.degraded} if ledger.degraded else {}),
        "time": time_text(datetime.now(UTC)),
        "breakers": {each.name: describe(each, datetime.now(UTC)) for each in known.registry.snapshots()},
    }


def _fleet(seen: FleetView) -> dict[str, Any]:
    """Return what this host knows of its fleet: connected is whether it follows it now."""
    age = None if seen.age is None else round(seen.age, 1)
    return {
        "connected": seen.connected,
        "hosts": seen.hosts,
        "last_exchange_seconds": age,
        "apart": list(seen.unreachable),
    }
