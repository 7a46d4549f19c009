"""What one worker of a host does for all of them: reconciling trades, telling of them, and verifying what was told."""

import threading
from datetime import timedelta

from cb import Ledger
from cb.background.leader import Leader
from cb.clocks import monotonic
from cb.log import Log
from gateway.services.alerter import Alarm
from gateway.services.audit_log import AuditLog, Head
from gateway.services.audit_verifier import Auditor
from servicekit.database import DatabaseUnavailableError

from .comparison import Comparer
from .outbox_relay import Dispatcher
from .reconciler import Reconciler

log = Log(__name__)

#: seconds between two looks for work
PAUSE = 0.1
#: seconds between two verifications of the audit log
VERIFY = 60.0
#: how much longer than it works the auditor rests after each page
REST = 3
#: time between two lines of the log that tell the head of the audit log
TELL = timedelta(minutes=1).total_seconds()


def take_up(
    ledger: Ledger,
    *,
    reconciler: Reconciler,
    dispatcher: Dispatcher,
    alarm: Alarm,
    audit: AuditLog,
    auditor: Auditor,
    comparer: Comparer,
    compare_interval: float,
) -> list[Leader]:
    """Have the background work done from now on. Whoever keeps what is returned can close it.

    `compare_interval` is seconds between two comparisons with the portfolio.
    """

    def reconcile(stop: threading.Event) -> None:
        busy = False
        while not stop.wait(0 if busy else PAUSE):
            busy = reconciler.turn()

    def dispatch(stop: threading.Event) -> None:
        busy, told, head = False, 0.0, Head(0, "")
        while not stop.wait(0 if busy else PAUSE):
            busy = dispatcher.turn()
            alarm.turn()
            if monotonic() - told >= TELL:
                told, head = monotonic(), _tell_head(audit, head)
        dispatcher.turn()  # what the last requests have left
        _tell_head(audit, head)

    def verify(stop: threading.Event) -> None:
        pause = PAUSE
        while not stop.wait(pause):
            begun = monotonic()
            more = auditor.turn()
            pause = REST * (monotonic() - begun) if more else VERIFY

    def compare(stop: threading.Event) -> None:
        pause = compare_interval / 10  # soon after a start: a database may have been restored
        while not stop.wait(pause):
            begun = monotonic()
            more = comparer.turn()
            rest = compare_interval / 10 if comparer.hindered else compare_interval
            pause = REST * (monotonic() - begun) if more else rest

    works = {"reconciler": reconcile, "dispatcher": dispatch, "auditor": verify, "comparer": compare}
    return [Leader(ledger, role, work) for role, work in works.items()]


def _tell_head(audit: AuditLog, known: Head) -> Head:
    try:
        head = audit.head()
    except DatabaseUnavailableError:
        return known
    if head != known:
        log.info("the audit log has %d entries, the last with hash %s", head.n, head.hash)
    return head
