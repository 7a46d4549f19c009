"""The gateway's own metrics, read from its database: any worker answers for all of them."""

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, Metric

from cb.log import Log
from gateway.trading.stats import Glances
from servicekit.database import DatabaseUnavailableError

log = Log(__name__)


class Measures:
    """A collector for prometheus_client. Without the database there is nothing to tell, and no metric."""

    def __init__(self, glances: Glances) -> None:
        self._glances = glances

    def collect(self) -> Iterator[Metric]:
        """Yield all families with the values of this moment."""
        try:
            yield from self._families()
        except DatabaseUnavailableError as error:
            log.warning("no metrics of trades: %s", error)

    def _families(self) -> Iterator[Metric]:
        seen = self._glances.take()
        yield GaugeMetricFamily("gateway_trades_pending", "Trades whose outcome is not known yet", seen.pending.number)
        yield GaugeMetricFamily(
            "gateway_trades_pending_oldest_seconds", "Age of the oldest of them", seen.pending.oldest
        )
        entries = GaugeMetricFamily(
            "gateway_journal_backlog", "Moves of trades that a reader has not been told", labels=["reader"]
        )
        oldest = GaugeMetricFamily("gateway_journal_backlog_oldest_seconds", "Age of the oldest", labels=["reader"])
        for reader, waiting in seen.behind.items():
            entries.add_metric([reader.name.lower()], waiting.number)
            oldest.add_metric([reader.name.lower()], waiting.oldest)
        yield from (entries, oldest)
        yield GaugeMetricFamily("gateway_audit_entries", "Entries of the audit log", seen.head.n)
        # A gauge has 53 bits, which suffice to see that a chain was written anew.
        help_ = "The first 13 hexadecimal digits of the last hash of the audit log"
        yield GaugeMetricFamily("gateway_audit_head", help_, _number(seen.head.hash))
        if seen.verified:  # what nobody has verified is not known to be whole
            help_ = "1 if the latest verification of the audit log found an entry that does not fit"
            broken = seen.verified.found.broken_at is not None
            yield GaugeMetricFamily("gateway_audit_chain_broken", help_, broken)
            help_ = "Time since the audit log was verified from its first entry to its last"
            yield GaugeMetricFamily("gateway_audit_verified_age_seconds", help_, seen.verified_ago)
        if seen.compared:
            help_ = "Settled trades that are not the same at the portfolio, by the latest comparison"
            yield GaugeMetricFamily("gateway_trades_differing", help_, seen.compared.differences)
            help_ = "Time since all trades were compared with the portfolio's"
            yield GaugeMetricFamily("gateway_trades_compared_age_seconds", help_, seen.compared_ago)


def _number(hash_: str) -> int:
    try:
        return int(hash_[:13], 16)
    except ValueError:  # somebody wrote it who is not the audit log: no reason to have no metrics
        return -1
