"""What is known of breakers as JSON documents, for the services' answers and for scripts."""

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

from .events import StateChange
from .snapshot import Snapshot


def describe(seen: Snapshot, now: datetime) -> dict[str, Any]:
    """Return a snapshot. Times are whole seconds, so that two workers seldom round them differently."""
    counts, failed = seen.window, seen.last_failure
    return {
        "state": seen.state.value,
        "source": seen.source,
        "generation": seen.generation,
        "since": time_text(now, seen.age),
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
        "last_failure": {"at": time_text(now, failed.ago), "type": failed.type} if failed else None,
        "config": asdict(seen.config),
        "why": seen.why,
    }


def record(transition: StateChange) -> dict[str, Any]:
    """Return an entry of the host's log."""
    at = datetime.fromtimestamp(transition.at, UTC)
    return {
        "number": transition.number,
        "at": f"{at.isoformat(timespec='milliseconds').removesuffix('+00:00')}Z",
        "name": transition.name,
        "from": transition.before.value,
        "to": transition.after.value,
        "generation": transition.generation,
        "reason": transition.reason,
    }


def outcome(change: StateChange) -> dict[str, Any]:
    """Return what an operator's command has done."""
    return {
        "name": change.name,
        "from": change.before.value,
        "to": change.after.value,
        "generation": change.generation,
        "reason": change.reason,
    }


def time_text(now: datetime, ago: float = 0.0) -> str:
    """Return a moment in UTC, `ago` seconds before now."""
    return f"{now - timedelta(seconds=ago):%Y-%m-%dT%H:%M:%SZ}"


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 1)
