"""Waiting for a condition, instead of for a time."""

import threading
import time
from collections.abc import Callable
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
