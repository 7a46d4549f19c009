"""Continuous calls in a worker process, and their results."""

import threading
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field

from cb import CircuitBreaker, CircuitOpenError, State
from cb.ledger import layout as at
from cb.states import CODES
from tests.support.waiting import Stopwatch


@dataclass
class Seen:
    """Results of the calls of one worker."""

    reached: int = 0
    rejected: int = 0
    #: longest duration of a call in seconds, without the dependency's own time and waits for a processor
    slowest: float = 0.0
    #: exceptions other than the dependency's and rejections
    strange: list[str] = field(default_factory=list)
    #: probes of each round of the fleet, by the fleet's generation
    probes: Counter[int] = field(default_factory=Counter)
    #: probes of rounds of this host alone, by its own generation
    alone: Counter[int] = field(default_factory=Counter)


class Traffic(threading.Thread):
    """A thread that calls a dependency, which takes `latency` seconds and fails while it is `sick`."""

    def __init__(self, breaker: CircuitBreaker, *, sick: bool, pause: float, latency: float) -> None:
        super().__init__(daemon=True)
        self.sick = sick
        self.seen = Seen()
        self._breaker = breaker
        self._head = breaker.ledger.core.record(breaker.name, 1).head
        self._pause = pause
        self._latency = latency
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.wait(self._pause):
            inside, watch = 0.0, Stopwatch()
            try:
                with suppress(ConnectionError), self._breaker as tally:
                    reached = Stopwatch()
                    self.seen.reached += 1
                    if tally.probe:
                        self._note_probe()
                    if self._latency:
                        self._ended.wait(self._latency)
                    inside = reached.seconds()
                    if self.sick:
                        raise ConnectionError
            except CircuitOpenError:
                self.seen.rejected += 1
            except Exception as error:  # noqa: BLE001 - the test asserts that there is none
                self.seen.strange.append(repr(error))
            self.seen.slowest = max(self.seen.slowest, watch.seconds() - inside)

    def _note_probe(self) -> None:
        if self._breaker.snapshot().source != "fleet":
            self.seen.alone[self._breaker.snapshot().generation] += 1
            return
        known = int(self._head[at.FLEET])
        # If the round has ended meanwhile, the round had the previous generation.
        self.seen.probes[(known >> 3) - (known & 7 != CODES[State.HALF_OPEN])] += 1

    def end(self) -> Seen:
        """Stop calling. Return the results."""
        self._ended.set()
        self.join()
        return self.seen
