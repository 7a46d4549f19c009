"""The warning about programs with different code that share a ledger."""

from cb.log import Log

log = Log(__name__)

#: nanoseconds between two looks for other programs
_INTERVAL_NS = 1_000_000_000


class OtherPrograms:
    """The other programs of a ledger that one process has found. Each is logged once.

    Args:
        path: The ledger.
        own: Name of the program that this process runs.
    """

    def __init__(self, path: str, own: str) -> None:
        self._path = path
        self._own = own
        self._looked_at: int | None = None
        #: their names
        self.names: set[str] = set()

    def __repr__(self) -> str:
        return f"<OtherPrograms than {self._own}: {', '.join(sorted(self.names)) or 'none'}>"

    def due(self, now: int) -> bool:
        """Return True once a second."""
        if self._looked_at is not None and abs(now - self._looked_at) < _INTERVAL_NS:
            return False
        self._looked_at = now
        return True

    def report(self, found: dict[str, int]) -> None:
        """Log programs that are new here: the process id of a worker of each, by name. The caller holds no lock."""
        for name, worker in found.items():
            if name != self._own and name not in self.names:
                self.names.add(name)
                log.warning(
                    "ledger %s is shared by programs with different code: %s, which is this one, and %s (worker %d). "
                    "They count in the same circuits, by the thresholds of the one that started last. "
                    "If that is not intended, name a ledger for each",
                    *(self._path, self._own, name, worker),
                )
