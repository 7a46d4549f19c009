"""Waiting for a condition, instead of for a time."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

Found = TypeVar("Found")


def until(condition: Callable[[], Found], what: str = "", *, seconds: float = 30) -> Found:
    """Return the value of a condition as soon as it is true.

    Args:
        condition: Checked a hundred times a second.
        what: Description of the condition, for the failure.
        seconds: Time after which the test fails.
    """
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"{what or 'the condition'}: not within {seconds} s"
        threading.Event().wait(0.01)
    return found


class Stopwatch:
    """Seconds since it was made, without those for which its thread could have run and no processor was free.

    If the thread loses its processor while it reads the two clocks, the seconds are too few, never too many.
    """

    def __init__(self) -> None:
        self._waited, self._begin = _waited(), time.monotonic()

    def seconds(self) -> float:
        return time.monotonic() - self._begin - (_waited() - self._waited)


def _waited() -> float:
    try:
        return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9
    except OSError:
        return 0.0
