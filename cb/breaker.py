"""The circuit breaker that users hold: the way of a call through it."""

import inspect
import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import wraps
from types import TracebackType
from typing import Any, NoReturn, ParamSpec, TypeVar

from . import layout as at
from .classify import Classifier, Kinds
from .config import BreakerConfig, nanoseconds
from .errors import CircuitOpenError
from .events import Event, LateResult, LedgerDegraded, Listener, Rejected
from .layout import ADMITTING, BOUNDS, CALM, CODES, ELAPSED, HISTOGRAM, STARTED, WORD, State, generation_of, state_of
from .ledger import PATIENCE, Ledger
from .snapshot import Snapshot, take
from .steering import Steering
from .tally import Outcome, Tally
from .watch import WATCH

_OPEN = CODES[State.OPEN]
P = ParamSpec("P")
R = TypeVar("R")


class CircuitBreaker(Steering):
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
            WATCH.tended.add(self)

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
        head, idle, clock = self._head, self._idle, self._clock

        def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                tally = idle.pop()
            except IndexError:
                tally = self._grow()
            if head[WORD] != tally.word:
                self._admit(tally)
            cells = tally.cells
            cells[STARTED] = tally.started = started = clock()
            try:
                result = fn(*args, **kwargs)
            except BaseException as error:
                self._fail(tally, error)
                raise
            now = clock()
            elapsed = now - started
            if 0 <= elapsed < self._quick and now < tally.slice_end and head[CALM] == tally.word:
                # What `_settle` does, for a quick success with no failure about.
                cells[HISTOGRAM + bisect_right(BOUNDS, elapsed)] += 1
                cells[ELAPSED] += elapsed
                cells[STARTED] = 0
                idle.append(tally)
            else:
                self._succeed(tally, result, now)
            return result

        return guarded

    def __enter__(self) -> Tally:
        """Admit the block. The tally's `probe` says whether it tries a circuit that was open."""
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

    def _apply(self, config: BreakerConfig) -> None:
        self._slow = nanoseconds(config.slow_call_duration)
        self._permit = nanoseconds(config.permit_timeout)
        # A result that somebody wants to see is never taken the short way.
        self._quick = 0 if self._classifier.failed_result else self._slow

    def _grow(self) -> Tally:
        WATCH.start()
        return self._row.grow(self._clock())

    def _admit(self, tally: Tally) -> None:
        """Let a call into a state that its tally does not know. Raises CircuitOpenError."""
        head, now = self._head, self._clock()
        word = head[WORD]
        if word & 7 == _OPEN and (wait := head[at.UNTIL] - now) > 0 and not self.listeners:
            # What `_reject` does: a dead dependency makes very many of these.
            tally.count(at.REJECTED)
            self._idle.append(tally)
            raise CircuitOpenError(self.name, wait / 1e9)
        tally.word, events = -1, list[Event]()
        try:
            if state_of(word) in ADMITTING and head[at.CALM] != word:
                self._evaluate(now)  # there may be calls of a dead worker that nobody has looked at
                word = head[at.WORD]
            admitted = state_of(word) in ADMITTING
            if admitted:
                self._refresh()
                tally.admit(word, now)
            elif self._due(word, now) and self.ledger.lock.acquire(timeout=PATIENCE):
                # A lock that cannot be had means no probe: whoever holds it may be stopped for good.
                try:
                    self._refresh()
                    admitted, events = self._circuit.admit(now)
                    word = head[at.WORD]
                    if admitted:
                        tally.admit(word, now)
                finally:
                    self.ledger.lock.release()
            self._tell(events)
        except BaseException:  # an interruption, perhaps inside a listener: the call does not take place
            if tally.word == -1:
                self._idle.append(tally)
            else:
                self._settle(tally, Outcome.NEUTRAL, now)
            raise
        if not admitted:
            self._reject(tally, state_of(word), now)

    def _due(self, word: int, now: int) -> bool:
        """Return whether a circuit that refuses calls may have to change its mind."""
        until = self._head[at.UNTIL]
        return state_of(word) is State.HALF_OPEN or 0 < until <= now

    def _reject(self, tally: Tally, state: State, now: int) -> NoReturn:
        tally.count(at.REJECTED)
        self._idle.append(tally)
        until = self._head[at.UNTIL]
        wait = (until - now if until > now else 0) / 1e9 if until else None
        if self.listeners:
            self._tell([Rejected(self.name, state, wait)])
        raise CircuitOpenError(self.name, wait)

    def _succeed(self, tally: Tally, result: object, now: int) -> None:
        outcome = Outcome.SUCCESS
        if self._classifier.failed_result is not None:
            try:
                if self._classifier.failed_result(result):
                    outcome = Outcome.FAILURE
                    self._row.note_failure(now, "result")
            except BaseException:
                self._settle(tally, Outcome.NEUTRAL, now)
                raise
        self._settle(tally, outcome, now)

    def _fail(self, tally: Tally, error: BaseException) -> None:
        now, outcome = self._clock(), Outcome.NEUTRAL
        try:
            outcome = self._classifier.error(error, now - tally.started >= self._slow)
            if outcome is Outcome.FAILURE:
                self._row.note_failure(now, type(error).__name__)
                asked = getattr(error, "retry_after", None)
                if isinstance(asked, int | float) and asked > 0:
                    until = now + nanoseconds(min(asked, self._circuit.config.timeout_max))
                    self._head[at.RETRY_AT] = max(self._head[at.RETRY_AT], until)
        finally:
            self._settle(tally, outcome, now)

    def _settle(self, tally: Tally, outcome: Outcome, now: int) -> None:
        """Count an outcome, free its tally, and see whether the state must change."""
        head, word, elapsed = self._head, tally.word, now - tally.started
        state, slow = state_of(word), elapsed >= self._slow
        late = generation_of(head[at.WORD]) != generation_of(word)
        if late:
            tally.count(at.LATE)  # the stay that admitted it is over: no vote
        elif outcome is Outcome.NEUTRAL or state is State.DISABLED:
            outcome = Outcome.NEUTRAL
            tally.count(at.NEUTRAL)
            if state is State.HALF_OPEN:
                tally.probed(at.ROUND_RETURNED)
        else:
            tally.record(now, outcome, slow)
            if state is State.HALF_OPEN:
                too_slow = slow and self._circuit.config.slow_call_rate_threshold is not None
                good = outcome is Outcome.SUCCESS and not too_slow and elapsed < self._permit
                tally.probed(at.ROUND_SUCCESSES if good else at.ROUND_FAILURES)
        tally.cells[at.STARTED] = 0
        if state is State.HALF_OPEN:
            tally.word = -1  # the next call must ask for a permit of its own
        self._idle.append(tally)
        if late:
            if self.listeners:
                self._tell([LateResult(self.name, outcome.value)])
        elif outcome is not Outcome.NEUTRAL and self._circuit.matters(outcome, slow, now):
            self._evaluate(now)
