"""Reasons why the breakers of a ledger are not shared or counted as configured, each logged once."""

from cb.log import Log

log = Log(__name__)


class Degradation:
    """The reasons of one ledger in one process."""

    def __init__(self, reason: str | None) -> None:
        #: why it is not the shared ledger that was asked for; None if it is
        self.reason = reason
        #: why the first of the breakers for which there is no room is in another ledger
        self.unshared = ""
        self._no_shard: dict[int, str] = {}  # by record
        self._uncounted: dict[int, str] = {}  # by record
        self._reported: str | None = None

    def __repr__(self) -> str:
        return f"<Degradation {self.text or 'none'}>"

    @property
    def text(self) -> str | None:
        """The reasons that concern all breakers of the ledger; None without any."""
        uncounted = next(iter((*self._uncounted.values(), *self._no_shard.values())), None)
        return "; ".join(reason for reason in (self.reason, uncounted) if reason) or None

    def note_no_shard(self, index: int, reason: str | None) -> None:
        """Note why calls of a record are not counted in shards of this process, None when they are again."""
        _note(self._no_shard, index, reason)

    def note_uncounted(self, index: int, reason: str | None) -> None:
        """Note why they are not even counted in the HOST_COUNTERS, None when they are again."""
        _note(self._uncounted, index, reason)

    def forget_records(self) -> None:
        """Drop the reasons of all records, for a process that has counted nothing yet."""
        self._no_shard, self._uncounted = {}, {}

    def report(self, degraded: str | None) -> None:
        """Log once that the ledger is degraded, and once that it no longer is. The caller holds no lock."""
        reported, self._reported = self._reported, degraded  # before the line: a log handler may call through a breaker
        if degraded and degraded != reported:
            log.warning("breakers are not shared between processes as configured: %s", degraded)
        elif reported and not degraded:
            log.warning("breakers are shared between processes again")


def _note(reasons: dict[int, str], index: int, reason: str | None) -> None:
    if reason:
        reasons[index] = reason
    else:
        reasons.pop(index, None)
