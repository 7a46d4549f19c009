"""How the trades stand, at a glance: for the metrics and the live page, the same whichever worker is asked."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from gateway.services.audit_log import AuditLog, Head, Verified
from servicekit.database import DatabaseUnavailableError

from .comparison_log import Comparison, ComparisonLog
from .outbox import Journal, Reader
from .store import Store


@dataclass(frozen=True, slots=True)
class Waiting:
    """What waits for something."""

    number: int
    #: age of the oldest in seconds, 0 without one
    oldest: float


@dataclass(frozen=True, slots=True)
class Glance:
    """What was so at one moment."""

    #: trades whose outcome is not known yet
    pending: Waiting
    #: moves that a reader has not been told
    behind: Mapping[Reader, Waiting]
    #: the end of the audit log
    head: Head
    #: what the latest verification of the audit log has found, None if there was none
    verified: Verified | None
    #: seconds since then
    verified_ago: float
    #: the latest comparison with the portfolio, None if there was none
    compared: Comparison | None
    #: seconds since then
    compared_ago: float


class Glances:
    """Reads the database at each look."""

    def __init__(
        self, store: Store, journal: Journal, audit: AuditLog, comparisons: ComparisonLog, clock: Callable[[], datetime]
    ) -> None:
        self._store = store
        self._journal = journal
        self._audit = audit
        self._comparisons = comparisons
        self._clock = clock

    def take(self) -> Glance:
        """Return how the trades stand. Raises DatabaseUnavailableError, also for what is stored and makes no sense."""
        try:
            return self._take()
        except (ValueError, TypeError, OverflowError) as error:
            raise DatabaseUnavailableError(f"what is stored makes no sense: {error}") from error

    def _take(self) -> Glance:
        pending, head, verified = self._store.backlog(), self._audit.head(), self._audit.verified()
        compared = self._comparisons.latest()
        behind = {reader: self._journal.backlog(reader) for reader in Reader}
        return Glance(
            Waiting(pending.trades, self._age(pending.oldest)),
            {reader: Waiting(backlog.entries, self._age(backlog.oldest)) for reader, backlog in behind.items()},
            head,
            verified,
            self._age(verified.at if verified else None),
            compared,
            self._age(compared.at if compared else None),
        )

    def show(self) -> dict[str, Any]:
        """Return the glance for the live page, or why there is none."""
        try:
            seen = self.take()
        except DatabaseUnavailableError as error:
            return {"unavailable": str(error)}
        return {
            "pending": _show(seen.pending),
            "behind": {reader.name.lower(): _show(waiting) for reader, waiting in seen.behind.items()},
            "audit": {"entries": seen.head.n, "hash": seen.head.hash},
        }

    def _age(self, since: datetime | None) -> float:
        return max((self._clock() - since).total_seconds(), 0.0) if since else 0.0


def _show(waiting: Waiting) -> dict[str, float]:
    return {"number": waiting.number, "oldest_seconds": round(waiting.oldest, 1)}
