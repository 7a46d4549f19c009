"""The programs that count in a ledger, by the name of their project, and the warning about a second one."""

from cb.log import Log

from . import layout as at

log = Log(__name__)

#: nanoseconds between two looks for other programs
_INTERVAL_NS = 1_000_000_000


class Programs:
    """The programs of a ledger as one process sees them. Each program but its own is logged once.

    Args:
        header: Cells of the ledger.
        own: Name of the program that this process runs, empty if unknown.
    """

    def __init__(self, header: memoryview, own: str) -> None:
        self._header = header
        #: name of the program that this process runs
        self.own = own
        self._looked_at: int | None = None
        self._reported: set[str] = set()

    def __repr__(self) -> str:
        return f"<Programs beside {self.own or 'an unnamed one'}: {', '.join(sorted(self._reported)) or 'none'}>"

    @property
    def looked(self) -> bool:
        """True if this process has looked for others already."""
        return self._looked_at is not None

    @property
    def others(self) -> frozenset[str]:
        """The other programs that have been logged."""
        return frozenset(self._reported)

    def enter(self, shard: int) -> None:
        """Write the own name beside a shard. The caller owns it, and its owner's number is 0."""
        at.put_text(self._header, at.H_PROGRAMS + shard * at.PROGRAM_CELLS, at.PROGRAM_CELLS, self.own)

    def of(self, shard: int) -> str:
        """Return the name beside a shard."""
        return at.get_text(self._header, at.H_PROGRAMS + shard * at.PROGRAM_CELLS, at.PROGRAM_CELLS)

    def due(self, now: int) -> bool:
        """Return True once a second, for a process that knows its own name."""
        if not self.own or (self._looked_at is not None and abs(now - self._looked_at) < _INTERVAL_NS):
            return False
        self._looked_at = now
        return True

    def report(self, path: str, found: dict[str, int]) -> None:
        """Log programs that are new here: the process ids of a worker of each, by name. The caller holds no lock."""
        for name, worker in found.items():
            if name != self.own and name not in self._reported:
                self._reported.add(name)
                log.warning(
                    "ledger %s is shared by programs with different code: %s, which is this one, and %s (worker %d). "
                    "They count in the same circuits, by the thresholds of the one that started last. "
                    "If that is not intended, name a ledger for each",
                    *(path, self.own, name, worker),
                )
