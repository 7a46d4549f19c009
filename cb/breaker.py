"""The circuit breaker that users hold: the way of a call through it."""

import inspect
import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import wraps
from types import TracebackType
from typing import ParamSpec, TypeVar

from . import layout as at
from .circuit import SECOND, Circuit
from .config import BreakerConfig
from .errors import CircuitOpenError
from .events import Listener, StateChange, announce
from .layout import CODES, STATES, State
from .ledger import PATIENCE, Ledger
from .snapshot import Snapshot, take
from .tally import Outcome, Tally

P = ParamSpec("P")
R = TypeVar("R")
_CLOSED, _OPEN = CODES[State.CLOSED], CODES[State.OPEN]


class CircuitBreaker:
    """Refuses calls to a dependency that fails, for all threads and processes that share the ledger.

    Use `call`, decorate a function, or write `with breaker:`. A raised Exception is a failure, unless it is one of
    `ignored`, which count as neither. `clock` returns monotonic nanoseconds.
    """

    def __init__(
        self,
        name: str,
        config: BreakerConfig | None = None,
        *,
        ledger: Ledger | None = None,
        ignored: tuple[type[BaseException], ...] = (),
        listeners: Sequence[Listener] = (),
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.name = name
        self.config = config or BreakerConfig()
        self.ledger = ledger or Ledger.in_memory()
        #: called with every StateChange that a call of this process makes; add to it or remove from it at will
        self.listeners: list[Listener] = list(listeners)
        self._ignored = ignored
        self._clock = clock
        self._row = self.ledger.row(name, clock(), int(self.config.interval * SECOND))
        self._circuit = Circuit(name, self._row, self.config)
        self._slow = int(self.config.slow_call_duration * SECOND)
        # The two that every call needs, one attribute nearer.
        self._head, self._idle = self._row.head, self._row.idle
        self._entered = threading.local()

    @property
    def state(self) -> State:
        """The circuit's state. Reading it changes nothing: an OPEN whose time is up stays so until a call comes."""
        return STATES[self._head[at.WORD] & 7]

    def snapshot(self) -> Snapshot:
        """Return all there is to know, summed over all processes."""
        return take(self.name, self._row, self.config, self.ledger.scope, self._clock())

    def call(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Return fn(*args, **kwargs). Raises CircuitOpenError, without calling fn, when the circuit refuses."""
        tally = self._begin()
        try:
            result = fn(*args, **kwargs)
        except BaseException as error:
            self._fail(tally, error)
            raise
        self._succeed(tally)
        return result

    def __call__(self, fn: Callable[P, R]) -> Callable[P, R]:
        """Guard a function. Raises TypeError for one whose call only makes a coroutine or a generator."""
        if inspect.iscoroutinefunction(fn) or inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
            raise TypeError(f"{fn!r} does its work after the call has returned: a breaker cannot see its outcome")
        call = self.call

        @wraps(fn)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            return call(fn, *args, **kwargs)

        return guarded

    def __enter__(self) -> None:
        tally = self._begin()
        vars(self._entered).setdefault("tallies", []).append(tally)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        tally = self._entered.tallies.pop()
        if error is None:
            self._succeed(tally)
        else:
            self._fail(tally, error)

    def _begin(self) -> Tally:
        """Admit a call. Return the tally that is its own until `_succeed` or `_fail`."""
        try:
            tally = self._idle.pop()
        except IndexError:
            tally = self._row.grow(self._clock())
        if self._head[at.WORD] != tally.word:
            self._admit(tally)
        tally.cells[at.STARTED] = tally.started = self._clock()
        return tally

    def _succeed(self, tally: Tally) -> None:
        now = self._clock()
        elapsed = now - tally.started
        head = self._head
        if 0 <= elapsed < self._slow and now < tally.slice_end and head[at.WORD] == tally.word and not head[at.ALERT]:
            # What `_settle` does, for a quick success with no failure about. The word is that of a CLOSED circuit,
            # because a probe's tally has no slice.
            cells = tally.cells
            cells[tally.calls] += 1
            cells[at.HISTOGRAM + bisect_right(at.BOUNDS, elapsed)] += 1
            cells[at.ELAPSED] += elapsed
            cells[at.STARTED] = 0
            self._idle.append(tally)
        else:
            self._settle(tally, Outcome.SUCCESS, now)

    def _fail(self, tally: Tally, error: BaseException) -> None:
        now = self._clock()
        if isinstance(error, self._ignored):
            outcome = Outcome.NEUTRAL
        elif isinstance(error, Exception) or now - tally.started >= self._slow:
            # An interruption that comes late is the only trace of a hang: gunicorn ends such a worker by SystemExit.
            outcome = Outcome.FAILURE
            asked = vars(error).get("retry_after")
            if isinstance(asked, int | float) and asked > 0:
                until = now + int(min(asked, self.config.timeout_max) * SECOND)
                self._head[at.RETRY_AT] = max(self._head[at.RETRY_AT], until)
            self._row.note_failure(now, type(error).__name__)
        else:
            outcome = Outcome.NEUTRAL
        self._settle(tally, outcome, now)

    def _admit(self, tally: Tally) -> None:
        """Let a call into a state that its tally does not know yet. Raises CircuitOpenError."""
        head, word, changes = self._head, self._head[at.WORD], list[StateChange]()
        admitted = word & 7 == _CLOSED
        now = 0 if admitted else self._clock()
        # A lock that cannot be had means no probe: whoever holds it may be stopped for good.
        due = not admitted and not (word & 7 == _OPEN and now < head[at.UNTIL])
        if due and self.ledger.lock.acquire(timeout=PATIENCE):
            try:
                admitted, changes = self._circuit.admit_probe(now)
                word = head[at.WORD]
            finally:
                self.ledger.lock.release()
        # Only the word of a CLOSED circuit outlives the call, and spares the next one this way.
        tally.word, tally.slice_end = word if admitted else -1, 0
        if not admitted:
            tally.count(at.REJECTED)
            self._idle.append(tally)
        elif word & 7 != _CLOSED:
            tally.cells[at.PROBE] = word >> 3
        try:
            self._announce(changes)
        except BaseException:  # an interruption inside a listener: the call does not take place
            if admitted:
                tally.started = now
                self._settle(tally, Outcome.NEUTRAL, now)
            raise
        if not admitted:
            raise CircuitOpenError(self.name, max(head[at.UNTIL] - now, 0) / SECOND)

    def _settle(self, tally: Tally, outcome: Outcome, now: int) -> None:
        """Count an outcome, free its tally, and see whether the state must change."""
        head, word = self._head, tally.word
        probe = word & 7 != _CLOSED
        slow = now - tally.started >= self._slow
        if head[at.WORD] != word:
            tally.count(at.LATE)  # the stay that admitted it is over: no vote
        elif outcome is Outcome.NEUTRAL:
            tally.count(at.NEUTRAL)
            if probe:
                tally.probed(at.ROUND_RETURNED)
        else:
            tally.record(now, outcome, slow)
            if probe:
                too_slow = slow and self.config.slow_call_rate_threshold is not None
                good = outcome is Outcome.SUCCESS and not too_slow
                tally.probed(at.ROUND_SUCCESSES if good else at.ROUND_FAILURES)
        tally.cells[at.STARTED] = tally.cells[at.PROBE] = 0
        if probe:
            tally.word, tally.slice_end = -1, 0  # the next call must ask for a permit of its own
        self._idle.append(tally)
        if outcome is not Outcome.NEUTRAL and head[at.WORD] == word and (probe or self._alarming(outcome, slow, now)):
            self._evaluate(now)

    def _alarming(self, outcome: Outcome, slow: bool, now: int) -> bool:
        """Return whether an outcome of a CLOSED circuit may open it; a success may, when it completes the minimum."""
        head = self._head
        if outcome is Outcome.FAILURE:
            head[at.BROKEN] = 1
        elif head[at.BROKEN]:
            # Cleared first: a failure that counts in the new streak sets it after this. The time makes the number
            # unique where two processes come here at once.
            head[at.BROKEN] = 0
            head[at.STREAK] = max(head[at.STREAK] + 1, now)
        if outcome is Outcome.FAILURE or slow:
            head[at.ALERT] = 1
            return True
        return bool(head[at.ALERT]) and now >= head[at.CALM_UNTIL]

    def _evaluate(self, now: int) -> None:
        if self._circuit.verdict(now) is None or not self.ledger.lock.acquire(timeout=PATIENCE):
            return  # without the lock the outcome waits in its tally for the next evaluation
        try:
            change = self._circuit.evaluate(now)
        finally:
            self.ledger.lock.release()
        if change:
            self._announce([change])

    def _announce(self, changes: list[StateChange]) -> None:
        for change in changes:
            announce(self.listeners, change)
