"""What the breakers of a service are up to: `/api/v1/circuit-breaker/status`."""

import time
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

from flask import Blueprint

from cb.ledger import FleetSight
from cb.snapshot import Snapshot

from .extension import circuit_breakers

bp = Blueprint("circuit-breaker", __name__, url_prefix="/api/v1/circuit-breaker")


@bp.get("/status")
def status() -> Any:
    known = circuit_breakers()
    ledger = known.registry.ledger
    fleet = ledger.fleet(time.monotonic_ns())
    return {
        "service": known.service,
        "scope": "fleet" if fleet and fleet.leads else ledger.scope,
        "workers": ledger.workers(),
        **({"fleet": _fleet(fleet)} if fleet else {}),
        "time": _time(datetime.now(UTC)),
        "breakers": {each.name: _describe(each.snapshot(), datetime.now(UTC)) for each in known.registry},
    }


def _fleet(seen: FleetSight) -> dict[str, Any]:
    """Return what this host knows of its fleet: connected is whether it follows it now."""
    age = None if seen.age is None else round(seen.age, 1)
    return {"connected": seen.leads, "hosts": seen.hosts, "last_exchange_seconds": age}


def _describe(seen: Snapshot, now: datetime) -> dict[str, Any]:
    """Return a snapshot as JSON. Times are whole seconds, so that two workers seldom round them differently."""
    counts, failed = seen.window, seen.last_failure
    return {
        "state": seen.state.value,
        "source": seen.source,
        "generation": seen.generation,
        "since": _time(now, seen.age),
        "retry_after_seconds": None if seen.retry_after is None else round(seen.retry_after, 3),
        "window": {
            "seconds": seen.window_seconds,
            "requests": counts.requests,
            "failures": counts.failures,
            "slow": counts.slow,
            "failure_rate": round(counts.failure_rate, 3),
            "slow_call_rate": round(counts.slow_call_rate, 3),
        },
        "totals": asdict(seen.totals),
        "consecutive_failures": seen.consecutive_failures,
        "in_flight": seen.in_flight,
        "limit": seen.limit,
        "latency_ms": {f"p{percent}": _milliseconds(seen.latency.quantile(percent / 100)) for percent in (50, 95, 99)},
        "last_failure": {"at": _time(now, failed.ago), "type": failed.type} if failed else None,
        "config": asdict(seen.config),
        "why": seen.why,
    }


def _time(now: datetime, ago: float = 0.0) -> str:
    return f"{now - timedelta(seconds=ago):%Y-%m-%dT%H:%M:%SZ}"


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 1)
