"""Delivers outbox entries to audit and notification: in order for each trade, at least once."""

from collections.abc import Callable

from cb import CircuitOpenError
from gateway.services.audit import AuditService
from gateway.services.notification import NotificationService
from servicekit import Log, SimulatedError
from servicekit.database import DatabaseUnavailableError

from .outbox import Outbox, OutboxEntry, Reader

log = Log(__name__)

#: entries delivered at once
BATCH = 200
#: errors after which a delivery is retried without a traceback in the log
RETRYABLE_ERRORS = (CircuitOpenError, SimulatedError, DatabaseUnavailableError)


class OutboxRelay:
    """Delivers one batch per `run_once`. The readers are independent of each other, and trades wait for neither."""

    def __init__(self, outbox: Outbox, audit: AuditService, notification: NotificationService) -> None:
        self._outbox = outbox
        self._readers: dict[Reader, Callable[[list[OutboxEntry]], None]] = {
            Reader.AUDIT: audit.record,
            Reader.NOTIFICATION: notification.confirm,
        }
        self._failing: set[Reader] = set()

    def run_once(self) -> bool:
        """Deliver a batch to each reader. Return True if there may be more."""
        more = [self._deliver(reader) for reader in self._readers]
        return any(more)

    def _deliver(self, reader: Reader) -> bool:
        try:
            entries = self._outbox.unsent(reader, BATCH)
            if entries:
                self._readers[reader](entries)
                self._outbox.mark(reader, entries)
        except Exception as error:  # the other reader must not wait for this one
            failing = reader in self._failing
            self._failing.add(reader)
            if not failing:
                trace = None if isinstance(error, RETRYABLE_ERRORS) else error
                log.warning("outbox entries are not %s: %s", reader, error, exc_info=trace)
            return False
        self._failing.discard(reader)
        return len(entries) == BATCH
