"""Background tasks, each run by one elected worker of the host."""

import threading
from collections.abc import Callable
from datetime import timedelta
from time import monotonic

from cb import Leader, Ledger
from gateway.services.alerter import Alerter
from gateway.services.audit_log import AuditLog, Head
from gateway.services.audit_verifier import AuditVerifier
from servicekit import Log
from servicekit.database import DatabaseUnavailableError

from .comparer import Comparer
from .outbox_relay import OutboxRelay
from .reconciler import Reconciler

log = Log(__name__)

#: seconds between two polls for work
POLL_SECONDS = 0.1
#: seconds between two verifications of the audit log
VERIFY_SECONDS = 60.0
#: pause after each page, as a multiple of the time that the page took
REST = 3
#: seconds between two log lines with the head of the audit log
LOG_HEAD_SECONDS = timedelta(minutes=1).total_seconds()


def start_background_tasks(
    ledger: Ledger,
    *,
    reconciler: Reconciler,
    relay: OutboxRelay,
    alerter: Alerter,
    audit: AuditLog,
    verifier: AuditVerifier,
    comparer: Comparer,
    compare_interval: float,
) -> list[Leader]:
    """Start the tasks and return them; each can be closed.

    `compare_interval` is in seconds, between two comparisons with the portfolio.
    """

    def reconcile(stop: threading.Event) -> None:
        busy = False
        while not stop.wait(0 if busy else POLL_SECONDS):
            busy = reconciler.run_once()

    def deliver(stop: threading.Event) -> None:
        busy, logged_at, head = False, 0.0, Head(0, "")
        while not stop.wait(0 if busy else POLL_SECONDS):
            busy = relay.run_once()
            alerter.run_once()
            if monotonic() - logged_at >= LOG_HEAD_SECONDS:
                logged_at, head = monotonic(), _log_head(audit, head)
        relay.run_once()  # the entries of the last requests
        _log_head(audit, head)

    def verify(stop: threading.Event) -> None:
        pause = POLL_SECONDS
        while not stop.wait(pause):
            begun = monotonic()
            more = verifier.run_once()
            pause = REST * (monotonic() - begun) if more else VERIFY_SECONDS

    def compare(stop: threading.Event) -> None:
        pause = compare_interval / 10  # soon after a start: a database may have been restored
        while not stop.wait(pause):
            begun = monotonic()
            more = comparer.run_once()
            rest = compare_interval / 10 if comparer.failing else compare_interval
            pause = REST * (monotonic() - begun) if more else rest

    tasks: dict[str, Callable[[threading.Event], None]] = {
        "reconciler": reconcile,
        "outbox-relay": deliver,
        "audit-verifier": verify,
        "comparer": compare,
    }
    return [Leader(ledger, role, task) for role, task in tasks.items()]


def _log_head(audit: AuditLog, logged: Head) -> Head:
    try:
        head = audit.head()
    except DatabaseUnavailableError:
        return logged
    if head != logged:
        log.info("the audit log has %d entries, the last with hash %s", head.n, head.hash)
    return head
