"""The time that an order may take as a whole."""

from collections.abc import Callable

from cb.clocks import monotonic

from .errors import OrderTimeout


class Deadline:
    """A point in time by which an order must be answered, `timeout` seconds from now.

    `clock` returns monotonic seconds.
    """

    def __init__(self, timeout: float, clock: Callable[[], float] = monotonic) -> None:
        self._timeout = timeout
        self._clock = clock
        self._end = clock() + timeout

    def left(self) -> float:
        """Return the seconds left. Raises OrderTimeout if there are none."""
        seconds = self._end - self._clock()
        if seconds <= 0:
            raise OrderTimeout(self._timeout)
        return seconds

    def remaining(self) -> float:
        """Return the seconds left, 0 if there are none."""
        return max(self._end - self._clock(), 0.0)
