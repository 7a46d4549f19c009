"""Reasons why the breakers of a ledger are not shared and counted as was asked for, each said once."""

from cb.log import Log

log = Log(__name__)


class Degradation:
    """The reasons of one ledger in one process."""

    def __init__(self, reason: str | None) -> None:
        #: why it is not the shared one that was asked for; None if it is
        self.reason = reason
        #: why the first of the breakers for which there is no room is in another ledger
        self.apart = ""
        self._uncounted: dict[int, str] = {}  # by row
        self._alone: dict[int, str] = {}  # by row
        self._said: str | None = None

    @property
    def text(self) -> str | None:
        """The reasons that are those of all breakers of the ledger; None without any."""
        uncounted = next(iter((*self._alone.values(), *self._uncounted.values())), None)
        return "; ".join(reason for reason in (self.reason, uncounted) if reason) or None

    def note_uncounted(self, row: int, reason: str | None) -> None:
        """Note why calls of a row are not counted in blocks of this process, None when they are again."""
        _note(self._uncounted, row, reason)

    def note_unshared(self, row: int, reason: str | None) -> None:
        """Note why they are not even counted in the commons, None when they are again."""
        _note(self._alone, row, reason)

    def forget_rows(self) -> None:
        """Start over in a process that counts nothing yet."""
        self._uncounted, self._alone = {}, {}

    def report(self, degraded: str | None) -> None:
        """Log once that the ledger is degraded, and once that it no longer is. Caller holds no lock."""
        said, self._said = self._said, degraded  # before the line: a log handler may call through a breaker
        if degraded and degraded != said:
            log.warning("breakers are not shared between processes as they should be: %s", degraded)
        elif said and not degraded:
            log.warning("breakers are shared between processes again")


def _note(reasons: dict[int, str], row: int, reason: str | None) -> None:
    if reason:
        reasons[row] = reason
    else:
        reasons.pop(row, None)
