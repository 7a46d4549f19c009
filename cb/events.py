"""What a breaker tells those who listen."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from .layout import State

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StateChange:
    """A circuit has changed its state."""

    #: the breaker's name
    name: str
    before: State
    after: State
    #: number of the stay in the new state
    generation: int
    #: why, in words
    reason: str


Listener = Callable[[StateChange], object]


def announce(listeners: Iterable[Listener], change: StateChange) -> None:
    """Call every listener. One that raises is logged and hurts nobody. Caller holds no lock."""
    for listener in listeners:
        try:
            listener(change)
        except Exception:
            log.exception("listener %r failed on %s", listener, change)
