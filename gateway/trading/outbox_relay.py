"""Tells audit and notification what the journal has for them: in order for each trade, and at least once."""

from collections.abc import Callable

from cb import CircuitOpenError
from cb.log import Log
from gateway.services.audit import Audit
from gateway.services.notification import Notification
from servicekit import SimulatedError
from servicekit.database import DatabaseUnavailableError

from .outbox import Entry, Journal, Reader

log = Log(__name__)

#: entries that are told at once
BATCH = 200
#: what may hinder telling; it is tried again
HINDRANCES = (CircuitOpenError, SimulatedError, DatabaseUnavailableError)


class Dispatcher:
    """One round of it is a `turn`; a thread repeats it. Neither reader waits for the other, and no trade for either."""

    def __init__(self, journal: Journal, audit: Audit, notification: Notification) -> None:
        self._journal = journal
        self._readers: dict[Reader, Callable[[list[Entry]], None]] = {
            Reader.AUDIT: audit.record,
            Reader.NOTIFICATION: notification.confirm,
        }
        self._failing: set[Reader] = set()

    def turn(self) -> bool:
        """Tell each reader what is next. Return whether there may be more to do at once."""
        more = [self._tell(reader) for reader in self._readers]
        return any(more)

    def _tell(self, reader: Reader) -> bool:
        try:
            entries = self._journal.unsent(reader, BATCH)
            if entries:
                self._readers[reader](entries)
                self._journal.mark(reader, entries)
        except Exception as error:  # of the one reader, and the other must not wait for it
            failing = reader in self._failing
            self._failing.add(reader)
            if not failing:
                trace = None if isinstance(error, HINDRANCES) else error
                log.warning("the journal's entries are not %s: %s", reader, error, exc_info=trace)
            return False
        self._failing.discard(reader)
        return len(entries) == BATCH
