"""Work of which one run at a time is allowed in a process."""

from collections.abc import Callable
from typing import TypeVar

from cb.ledger.semaphore import Permit, Semaphore
from cb.pickling import PortableError

T = TypeVar("T")


class BusyError(PortableError):
    """The work is running already."""


class Exclusive:
    """Runs one piece of work at a time in this process; a second one is refused, not queued."""

    def __init__(self) -> None:
        self._semaphore = Semaphore(Permit)

    def run(self, work: Callable[[], T]) -> T:
        """Run `work`. Raises BusyError while another run is in progress."""
        permit = self._semaphore.take(1)
        if permit is None:
            raise BusyError
        try:
            return work()
        finally:
            self._semaphore.give_back(permit)
