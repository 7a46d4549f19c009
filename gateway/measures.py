"""The gateway's own metrics, read from its database: any worker answers for all of them."""

import logging
from collections.abc import Callable, Iterator
from datetime import datetime

from prometheus_client.core import GaugeMetricFamily, Metric

from cb.database import DatabaseUnavailable

from .audit_log import AuditLog
from .journal import Journal, Reader
from .store import Store

log = logging.getLogger(__name__)


class Measures:
    """A collector for prometheus_client. Without the database there is nothing to tell, and no metric."""

    def __init__(self, store: Store, journal: Journal, audit: AuditLog, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._journal = journal
        self._audit = audit
        self._clock = clock

    def collect(self) -> Iterator[Metric]:
        """Yield all families with the values of this moment."""
        try:
            yield from self._families()
        except DatabaseUnavailable as error:
            log.warning("no metrics of trades: %s", error)

    def _families(self) -> Iterator[Metric]:
        pending, head = self._store.backlog(), self._audit.head()
        behind = {reader: self._journal.backlog(reader) for reader in Reader}
        yield GaugeMetricFamily("gateway_trades_pending", "Trades whose outcome is not known yet", pending.trades)
        yield GaugeMetricFamily(
            "gateway_trades_pending_oldest_seconds", "Age of the oldest of them", self._age(pending.oldest)
        )
        entries = GaugeMetricFamily(
            "gateway_journal_backlog", "Moves of trades that a reader has not been told", labels=["reader"]
        )
        oldest = GaugeMetricFamily("gateway_journal_backlog_oldest_seconds", "Age of the oldest", labels=["reader"])
        for reader, backlog in behind.items():
            entries.add_metric([reader.name.lower()], backlog.entries)
            oldest.add_metric([reader.name.lower()], self._age(backlog.oldest))
        yield from (entries, oldest)
        yield GaugeMetricFamily("gateway_audit_entries", "Entries of the audit log", head.n)
        # A gauge has 53 bits, which suffice to see that a chain was written anew.
        help_ = "The first 13 hexadecimal digits of the last hash of the audit log"
        yield GaugeMetricFamily("gateway_audit_head", help_, int(head.hash[:13], 16))

    def _age(self, since: datetime | None) -> float:
        return max((self._clock() - since).total_seconds(), 0.0) if since else 0.0
