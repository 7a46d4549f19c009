"""Reasons why the breakers of a ledger are not shared or counted as configured, each logged once."""

from cb.log import Log

log = Log(__name__)

#: keys of `Degradation.reasons`: the file cannot be used; calls of a record are counted in HOST_COUNTERS, because the
#: process has no shard; they are not counted for other processes at all
FILE, NO_SHARD, UNCOUNTED = "file", "no shard", "uncounted"


class Degradation:
    """The reasons of one ledger in one process.

    Args:
        reason: why it is not the shared ledger that was asked for; None if it is.
    """

    def __init__(self, reason: str | None) -> None:
        #: the reasons that concern all breakers of the ledger, by kind and record; empty if it is not degraded
        self.reasons: dict[tuple[str, int], str] = {}
        #: reason why the first of the breakers for which there is no room is in another ledger
        self.unshared = ""
        #: the reason that was logged last, None once the end of the degradation was logged
        self.reported: str | None = None
        self.reason = reason

    def __repr__(self) -> str:
        return f"<Degradation {self.text or 'none'}>"

    @property
    def reason(self) -> str | None:
        """Reason why the ledger is not the shared one that was asked for; None if it is."""
        return self.reasons.get((FILE, 0))

    @reason.setter
    def reason(self, reason: str | None) -> None:
        self.note(FILE, 0, reason)

    @property
    def text(self) -> str | None:
        """The reason of the file, and that of one record; None without any."""
        reasons = [self._first(FILE), self._first(UNCOUNTED) or self._first(NO_SHARD)]
        return "; ".join(reason for reason in reasons if reason) or None

    def _first(self, kind: str) -> str | None:
        return next((reason for (each, _), reason in list(self.reasons.items()) if each == kind), None)

    def note(self, kind: str, index: int, reason: str | None) -> None:
        """Note a reason for a record, or None once it no longer applies."""
        if reason:
            self.reasons[kind, index] = reason
        else:
            self.reasons.pop((kind, index), None)

    def forget_records(self) -> None:
        """Drop the reasons of all records, for a process that has counted nothing yet."""
        self.reasons = {key: reason for key, reason in self.reasons.items() if key[0] == FILE}

    def report(self, degraded: str | None) -> None:
        """Log once that the ledger is degraded, and once that it no longer is. The caller holds no lock."""
        reported, self.reported = self.reported, degraded  # before the line: a log handler may call through a breaker
        if degraded and degraded != reported:
            log.warning("breakers are not shared between processes as configured: %s", degraded)
        elif reported and not degraded:
            log.warning("breakers are shared between processes again")
