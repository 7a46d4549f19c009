"""Verifies the audit log over and over, page by page, and notes what it finds where every worker sees it."""

import logging
from collections.abc import Callable
from datetime import datetime

from cb.log import Log
from servicekit.database import DatabaseUnavailableError

from .audit_log import AuditLog, Verification, Walk

log = Log(__name__)


class Auditor:
    """One page is a `turn`; a thread repeats it. Nobody waits for it, and it keeps no lock."""

    def __init__(self, audit: AuditLog, clock: Callable[[], datetime]) -> None:
        self._audit = audit
        self._clock = clock
        self._walk: Walk | None = None
        self._fault: str | None = None
        self._hindered = False

    def turn(self) -> bool:
        """Verify the next page. Return whether there is more: else the next turn begins with the first entry."""
        try:
            self._walk = self._walk or Walk(self._audit)
            found = self._walk.step()
            if found:
                self._audit.note(found, self._clock())
        except DatabaseUnavailableError as error:
            level = logging.DEBUG if self._hindered else logging.WARNING
            log.log(level, "the audit log cannot be verified: %s", error)
            self._hindered = True
            return False
        self._hindered = False
        if found is None:
            return True
        self._tell(found)
        self._walk = None
        return False

    def _tell(self, found: Verification) -> None:
        if found.fault and found.fault != self._fault:
            log.error("the audit log is broken at entry %d: %s", found.broken_at, found.fault)
        self._fault = found.fault
