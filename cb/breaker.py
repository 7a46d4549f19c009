"""The circuit breaker that users hold: the way of a call through it."""

import inspect
import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import wraps
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

from .classify import Classifier, Kinds
from .config import BreakerConfig
from .errors import CircuitOpenError
from .events import LedgerDegraded, Listener
from .layout import BOUNDS, CALM, CODES, ELAPSED, REJECTED, STARTED, SUCCESSES, UNTIL, WORD, State
from .ledger import Ledger
from .passage import Passage
from .snapshot import Snapshot, take
from .tally import Outcome, Tally
from .watch import WATCH

_OPEN = CODES[State.OPEN]
P = ParamSpec("P")
R = TypeVar("R")


class CircuitBreaker(Passage):
    """Refuses calls to a dependency that fails, for all threads and processes that share the ledger.

    Use `call`, decorate a function, or write `with breaker:`. An exception of `failures` is a failure, one of `ignored`
    counts as neither, any other is an answer; both may be predicates of the exception. `failed_result` tells which
    returned values are failures. `clock` returns monotonic nanoseconds, `wall_clock` nanoseconds since the epoch.
    """

    def __init__(
        self,
        name: str,
        config: BreakerConfig | None = None,
        *,
        ledger: Ledger | None = None,
        failures: Kinds = (Exception,),
        ignored: Kinds = (),
        failed_result: Callable[[Any], bool] | None = None,
        listeners: Sequence[Listener] = (),
        clock: Callable[[], int] = time.monotonic_ns,
        wall_clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._classifier = Classifier(failures, ignored, failed_result)
        ledger = ledger or Ledger.in_memory()
        super().__init__(
            name, config or BreakerConfig(), ledger, listeners=listeners, clock=clock, wall_clock=wall_clock
        )
        self._idle = self._row.idle
        self._entered = threading.local()
        if self.ledger.degraded:
            self._tell([LedgerDegraded(name, self.ledger.degraded)])
        if clock is time.monotonic_ns:  # who brings a clock of his own calls `tend` himself
            WATCH.add(self)

    def snapshot(self) -> Snapshot:
        """Return all there is to know, summed over all processes."""
        WATCH.start()
        return take(self.name, self._row, self.config, self.ledger.scope, self._clock())

    def explain(self) -> str:
        """Return one sentence: why the breaker is in its state and what would change it."""
        return self.snapshot().why

    def call(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Return fn(*args, **kwargs). Raises CircuitOpenError, without calling fn, when the circuit refuses."""
        return self._guard(fn)(*args, **kwargs)

    def __call__(self, fn: Callable[P, R]) -> Callable[P, R]:
        """Guard a function. Raises TypeError for one whose call only makes a coroutine or a generator."""
        if inspect.iscoroutinefunction(fn) or inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
            raise TypeError(f"{fn!r} does its work after the call has returned: a breaker cannot see its outcome")
        return wraps(fn)(self._guard(fn))

    def _guard(self, fn: Callable[P, R]) -> Callable[P, R]:
        # A function made anew and not a method: what every call needs lies in its closure.
        name, head, clock = self.name, self._head, self._clock
        take, give_back = self._idle.pop, self._idle.append

        def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                tally = take()
            except IndexError:
                tally = self._grow()
            word = head[WORD]
            if word != tally.word:
                if word & 7 == _OPEN and (wait := head[UNTIL] - clock()) > 0 and not self.listeners:
                    # What `_reject` does, where nobody wants to hear of it.
                    tally.count(REJECTED)
                    self._row.free(tally)
                    raise CircuitOpenError(name, wait / 1e9)
                self._admit(tally)
            cells = tally.cells
            cells[STARTED] = tally.started = started = clock()
            try:
                result = fn(*args, **kwargs)
            except BaseException as error:
                self._fail(tally, error)
                raise
            now = clock()
            if 0 <= (elapsed := now - started) < self._quick and now < tally.slice_end and head[CALM] == tally.word:
                # What `_settle` does, for a quick success with no failure about.
                cells[SUCCESSES + bisect_right(BOUNDS, elapsed)] += 1
                cells[ELAPSED] += elapsed
                cells[STARTED] = 0
                give_back(tally)
            else:
                self._succeed(tally, result, now)
            return result

        return guarded

    def __enter__(self) -> Tally:
        """Admit the block, which must end in the thread and the order in which it began.

        The tally's `probe` says whether it tries a circuit that was open.
        """
        try:
            tally = self._idle.pop()
        except IndexError:
            tally = self._grow()
        self._admit(tally)  # a block is not in a hurry: it always asks
        vars(self._entered).setdefault("tallies", []).append(tally)
        return tally

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        tally = self._entered.tallies.pop()
        if error is None:
            self._settle(tally, Outcome.SUCCESS, self._clock())
        else:
            self._fail(tally, error)
