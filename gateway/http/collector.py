"""Metrics of the trades, read from the database: every worker reports the same values."""

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, Metric

from gateway.trading.stats import TradeStatsReader
from servicekit import Log
from servicekit.database import DatabaseUnavailableError

log = Log(__name__)


class TradeStatsCollector:
    """A collector for prometheus_client. It yields no metric while the database is unavailable."""

    def __init__(self, reader: TradeStatsReader) -> None:
        self._reader = reader

    def collect(self) -> Iterator[Metric]:
        """Yield all metric families with their current values."""
        try:
            yield from self._families()
        except DatabaseUnavailableError as error:
            log.warning("no metrics of trades: %s", error)

    def _families(self) -> Iterator[Metric]:
        stats = self._reader.read()
        yield GaugeMetricFamily("gateway_trades_pending", "Trades without an outcome yet", stats.pending.size)
        yield GaugeMetricFamily(
            "gateway_trades_pending_oldest_seconds", "Age of the oldest pending trade", stats.pending.age
        )
        sizes = GaugeMetricFamily(
            "gateway_journal_backlog", "Moves of trades not yet delivered to a reader", labels=["reader"]
        )
        ages = GaugeMetricFamily(
            "gateway_journal_backlog_oldest_seconds", "Age of the oldest undelivered move", labels=["reader"]
        )
        for reader, backlog in stats.backlogs.items():
            sizes.add_metric([reader.name.lower()], backlog.size)
            ages.add_metric([reader.name.lower()], backlog.age)
        yield from (sizes, ages)
        yield GaugeMetricFamily("gateway_audit_entries", "Entries of the audit log", stats.head.n)
        # A gauge has 53 bits: enough to detect a rewritten chain.
        help_ = "The first 13 hexadecimal digits of the last hash of the audit log"
        yield GaugeMetricFamily("gateway_audit_head", help_, _number(stats.head.hash))
        if stats.verification:  # before the first verification the result is unknown
            help_ = "1 if the latest verification of the audit log found a broken entry"
            broken = stats.verification.result.broken_at is not None
            yield GaugeMetricFamily("gateway_audit_chain_broken", help_, broken)
            help_ = "Time since the latest complete verification of the audit log"
            yield GaugeMetricFamily("gateway_audit_verified_age_seconds", help_, stats.verification_age)
        if stats.comparison:
            help_ = "Settled trades that differ at the portfolio, by the latest comparison"
            yield GaugeMetricFamily("gateway_trades_differing", help_, stats.comparison.differences)
            help_ = "Time since all trades were compared with the portfolio"
            yield GaugeMetricFamily("gateway_trades_compared_age_seconds", help_, stats.comparison_age)


def _number(hash_: str) -> int:
    try:
        return int(hash_[:13], 16)
    except ValueError:  # a tampered hash must not hide the other metrics
        return -1
