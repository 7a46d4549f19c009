"""The explanation of a breaker: the reason for its state, and the event that would change it."""

from cb.config import BreakerConfig
from cb.ledger import layout as at
from cb.ledger.record import Record
from cb.states import State, counted

from .window import WindowStats


def explain(
    record: Record,
    state: State,
    config: BreakerConfig,
    stats: WindowStats,
    wait: float | None,
    *,
    fleet_controlled: bool,
    checked: bool,
) -> str:
    """Return the sentence. `wait` is seconds until the state may change by itself, None if it does not.

    `fleet_controlled` is True if the fleet grants the permits for probes; `checked` is True if health checks are the
    probes, and no calls.
    """
    reason = at.get_text(record.head, at.REASON, at.REASON_CELLS)
    if state is State.OPEN:
        probe, now = (
            "probe",
            "the next call asks the fleet for a probe" if fleet_controlled else "the next call is a probe",
        )
        if checked:
            probe, now = "health check", "health checks are the probes"
        return f"open: {reason}; " + (f"next {probe} in {wait:.0f} s" if wait else now)
    if state is State.HALF_OPEN:
        probes = stats.probes
        kind, permits = "health check" if checked else "probe", max(config.max_requests, probes.taken)
        return (
            f"half-open: {probes.taken} of {counted(permits, kind)} sent, "
            f"{probes.successes} succeeded and {probes.failures} failed, closes after {config.success_threshold}"
        )
    if state is State.FORCED_OPEN:
        return f"forced open: {reason}; " + ("until reset" if wait is None else f"probes in {wait:.0f} s")
    if state is State.DISABLED:
        return f"disabled: {reason}; admits every call and counts none"
    counts = _closed(config, stats)
    if state is State.METRICS_ONLY:
        return (
            f"metrics only: {reason}; {'would be open' if record.head[at.WOULD_OPEN] else 'would be closed'}: {counts}"
        )
    return f"closed: {counts}"


def _closed(config: BreakerConfig, stats: WindowStats) -> str:
    window, limits = stats.window, []
    rates = config.failure_rate_threshold or config.slow_call_rate_threshold
    if rates and window.requests < config.minimum_requests:
        streak = f", or {counted(config.failure_threshold, 'failure')} in a row" if config.failure_threshold else ""
        return (
            f"{window.requests} of {counted(config.minimum_requests, 'call')} needed in {config.interval:g} s{streak}"
        )
    if config.failure_rate_threshold:
        limits.append(f"{config.failure_rate_threshold:.0%}")
    if config.failure_threshold:
        limits.append(f"{config.failure_threshold} in a row (now {stats.streak})")
    parts = []
    if limits:
        rate = f"{window.failures} of {counted(window.requests, 'call')} failed ({window.failure_rate:.0%})"
        parts.append(f"{rate}, opens at {' or '.join(limits)}")
    if window.slow:
        slow_limit = config.slow_call_rate_threshold
        opens = f"opens at {slow_limit:.0%}" if slow_limit else "open nothing without slow_call_rate_threshold"
        parts.append(f"{window.slow} slow ({window.slow_call_rate:.0%}), {opens}")
    return "; ".join(parts) or f"no call of {window.requests} was slow, opens at {config.slow_call_rate_threshold:.0%}"
