"""Verifies the audit log continuously, page by page, and stores the results for all workers."""

import logging
from collections.abc import Callable
from datetime import datetime

from servicekit import Log
from servicekit.database import DatabaseUnavailableError

from .audit_log import AuditLog, Verification, VerificationRun

log = Log(__name__)


class AuditVerifier:
    """Verifies one page per `run_once`, without holding a lock."""

    def __init__(self, audit: AuditLog, clock: Callable[[], datetime]) -> None:
        self._audit = audit
        self._clock = clock
        self._run: VerificationRun | None = None
        self._fault: str | None = None
        self._failing = False

    def run_once(self) -> bool:
        """Verify the next page. Return False at the end: the next page is the first of a new run."""
        try:
            self._run = self._run or VerificationRun(self._audit)
            result = self._run.step()
            if result:
                self._audit.save_verification(result, self._clock())
        except DatabaseUnavailableError as error:
            level = logging.DEBUG if self._failing else logging.WARNING
            log.log(level, "the audit log cannot be verified: %s", error)
            self._failing = True
            return False
        self._failing = False
        if result is None:
            return True
        self._log_fault(result)
        self._run = None
        return False

    def _log_fault(self, result: Verification) -> None:
        if result.fault and result.fault != self._fault:
            log.error("the audit log is broken at entry %d: %s", result.broken_at, result.fault)
        self._fault = result.fault
