"""Verifies the audit log over and over, page by page, and notes what it finds where every worker sees it."""

import logging
from collections.abc import Callable
from datetime import datetime

from cb.database import DatabaseUnavailable

from .audit_log import PAGE, START, AuditLog, Verification, follow

log = logging.getLogger(__name__)


class Auditor:
    """One page is a `turn`; a thread repeats it. Nobody waits for it, and it keeps no lock."""

    def __init__(self, audit: AuditLog, clock: Callable[[], datetime]) -> None:
        self._audit = audit
        self._clock = clock
        self._head = START
        self._fault: str | None = None

    def turn(self) -> bool:
        """Verify the next page. Return whether there is more: else the next turn begins with the first entry."""
        try:
            entries = self._audit.page(self._head.n, PAGE)
            found = follow(self._head, entries)
            if entries and found.broken_at is None:
                self._head = found.head
                return True
            self._audit.note(found, self._clock())
        except DatabaseUnavailable as error:
            log.debug("the audit log cannot be verified: %s", error)
            return False
        self._tell(found)
        self._head = START
        return False

    def _tell(self, found: Verification) -> None:
        if found.fault and found.fault != self._fault:
            log.error("the audit log is broken at entry %d: %s", found.broken_at, found.fault)
        self._fault = found.fault
