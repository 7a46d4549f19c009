"""Statistics of the trades for metrics and the live page, read from the database: every worker returns the same."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from gateway.services.audit_log import AuditLog, Head, LastVerification
from servicekit.database import DatabaseUnavailableError

from .comparison_log import Comparison, ComparisonLog
from .outbox import Outbox, Reader
from .store import TradeStore


@dataclass(frozen=True, slots=True)
class BacklogStats:
    """Size and age of a backlog."""

    size: int
    #: seconds since its oldest entry, 0 if it is empty
    age: float


@dataclass(frozen=True, slots=True)
class TradeStats:
    """Trade statistics at one moment."""

    #: trades without an outcome
    pending: BacklogStats
    #: moves not yet delivered, by reader
    backlogs: Mapping[Reader, BacklogStats]
    #: the end of the audit log
    head: Head
    #: the latest verification of the audit log, None before the first
    verification: LastVerification | None
    #: seconds since then
    verification_age: float
    #: the latest comparison with the portfolio, None before the first
    comparison: Comparison | None
    #: seconds since then
    comparison_age: float


class TradeStatsReader:
    """Reads the statistics from the database."""

    def __init__(
        self,
        store: TradeStore,
        outbox: Outbox,
        audit: AuditLog,
        comparisons: ComparisonLog,
        clock: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._outbox = outbox
        self._audit = audit
        self._comparisons = comparisons
        self._clock = clock

    def read(self) -> TradeStats:
        """Return the current statistics. Raises DatabaseUnavailableError, for damaged rows too."""
        try:
            return self._read()
        except (ValueError, TypeError, OverflowError) as error:
            raise DatabaseUnavailableError(f"damaged row: {error}") from error

    def _read(self) -> TradeStats:
        pending, head, verification = self._store.backlog(), self._audit.head(), self._audit.last_verification()
        comparison = self._comparisons.latest()
        backlogs = {reader: self._outbox.backlog(reader) for reader in Reader}
        return TradeStats(
            BacklogStats(pending.size, self._age(pending.oldest)),
            {reader: BacklogStats(backlog.size, self._age(backlog.oldest)) for reader, backlog in backlogs.items()},
            head,
            verification,
            self._age(verification.at if verification else None),
            comparison,
            self._age(comparison.at if comparison else None),
        )

    def panel(self) -> dict[str, Any]:
        """Return the data of the trades panel of the live page, or why there is none."""
        try:
            stats = self.read()
        except DatabaseUnavailableError as error:
            return {"unavailable": str(error)}
        return {
            "pending": _panel(stats.pending),
            "behind": {reader.name.lower(): _panel(backlog) for reader, backlog in stats.backlogs.items()},
            "audit": {"entries": stats.head.n, "hash": stats.head.hash},
        }

    def _age(self, since: datetime | None) -> float:
        return max((self._clock() - since).total_seconds(), 0.0) if since else 0.0


def _panel(backlog: BacklogStats) -> dict[str, float]:
    return {"number": backlog.size, "oldest_seconds": round(backlog.age, 1)}
