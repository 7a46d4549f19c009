"""The last good answers, for reads while a dependency is away. Never for trades."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from cb import BulkheadFullError, CircuitOpenError

from .errors import Unavailable

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Reading(Generic[T]):
    """An answer, fresh or not."""

    value: T
    #: seconds since it was fresh; None if it is
    age: float | None = None


class LastGood(Generic[T]):
    """Remembers the newest answers of this process, up to a limit."""

    def __init__(self, limit: int = 1000, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, tuple[T, float]] = OrderedDict()

    def read(self, fetch: Callable[[str], T], key: str) -> Reading[T]:
        """Return fetch(key), or what it last returned if the dependency is away. Raises what fetch raises."""
        try:
            value = fetch(key)
        except (CircuitOpenError, BulkheadFullError, Unavailable):
            with self._lock:
                if key not in self._kept:
                    raise
                value, since = self._kept[key]
            return Reading(value, self._clock() - since)
        with self._lock:
            self._kept[key] = value, self._clock()
            self._kept.move_to_end(key)
            if len(self._kept) > self._limit:
                self._kept.popitem(last=False)
        return Reading(value)
