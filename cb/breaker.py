"""The circuit breaker that users hold: the way of a call through it."""

from collections.abc import Callable, Sequence
from functools import partial, wraps
from types import TracebackType
from typing import Any, ParamSpec, TypeVar, overload

from .background.fork import FORK_MARK, detect_fork
from .background.watchdog import WATCHDOG
from .clocks import monotonic_ns, resolve_clock, wall_ns
from .config import BreakerConfig
from .errors import CircuitOpenError
from .events import Listener
from .fallback import F, V, falling_back, reraise
from .guard import CallGuard, ContextGuards, caller_context
from .handles import Handle, clock_argument
from .ledger.counters import Counters
from .ledger.layout import BOUNDS, ELAPSED, QUIET, QUIET_UNTIL, REJECTED, STARTED, STREAK_ACTIVE, SUCCESSES, UNTIL, WORD
from .ledger.ledger import Ledger
from .ledger.probe_scope import enter
from .recovery import Recovery
from .snapshot import Snapshot, Stats, snapshot_of, stats_of
from .state.deferred import PROMPT, require_now
from .state.outcome import Classifier, Kinds
from .states import CODES, State

_OPEN = CODES[State.OPEN]
_BRIEF = BOUNDS[0]
_NONE: type = type(None)
P = ParamSpec("P")
R = TypeVar("R")


class CircuitBreaker(Recovery, Handle):
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
        clock: Callable[[], int] = monotonic_ns,
        wall_clock: Callable[[], int] = wall_ns,
    ) -> None:
        self._classifier = Classifier(failures, ignored, failed_result)
        ledger = ledger or Ledger.in_memory()
        super().__init__(
            name, config or BreakerConfig(), ledger, listeners=listeners, clock=clock, wall_clock=wall_clock
        )
        self._made_of = config or BreakerConfig()
        self._idle = self._row.idle
        self._entered = ContextGuards(self)
        if resolve_clock(clock) is monotonic_ns:  # who brings a clock of his own calls `tick` himself
            WATCHDOG.add(self)

    def _origin(self) -> tuple[Any, ...]:
        options = {"ledger": self.ledger, **self._classifier.rules, **clock_argument(self._clock)}
        return partial(type(self), **options), self.name, self._made_of

    def snapshot(self) -> Snapshot:
        """Return all there is to know, summed over all processes."""
        WATCHDOG.start()
        return snapshot_of(self.name, self._row, self.config, self._core.scope, self._clock())

    def stats(self) -> Stats:
        """Return what is counted, summed over all processes: a part of the snapshot, at a third of its cost."""
        WATCHDOG.start()
        return stats_of(self.name, self._row, self.config, self._clock())

    def explain(self) -> str:
        """Return one sentence: why the breaker is in its state and what would change it."""
        return self.snapshot().why

    def call(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Return fn(*args, **kwargs). Raises CircuitOpenError, without calling fn, when the circuit refuses."""
        if not FORK_MARK[0]:
            detect_fork()
        require_now(fn)
        return self._guard(fn)(*args, **kwargs)

    @overload
    def __call__(
        self, fn: Callable[P, R], *, fallback: Callable[[Exception], F] | V = ...
    ) -> Callable[P, R | F | V]: ...
    @overload
    def __call__(
        self, *, fallback: Callable[[Exception], F] | V
    ) -> Callable[[Callable[P, R]], Callable[P, R | F | V]]: ...
    def __call__(self, fn: Any = None, *, fallback: Any = reraise) -> Any:
        """Guard a function: `@breaker`. Raises TypeError for one whose call only makes a coroutine or a generator.

        So does each call that returns one, or a Future, after all: it counts as nothing.

        With `@breaker(fallback=...)` callers get the fallback where the circuit refuses or the call fails: a value, or
        what a function makes of the exception. The breaker counts as it does without. What is an answer or `ignored`
        is raised as ever, and a result that counts as failed is returned as it is.
        """
        if fn is None and fallback is not reraise:
            return partial(self, fallback=fallback)
        require_now(fn)
        guarded = wraps(fn)(self._guard(fn))
        return guarded if fallback is reraise else falling_back(guarded, fallback, self._missed)

    def _guard(self, fn: Callable[P, R]) -> Callable[P, R]:
        # A function made anew and not a method: what every call needs lies in its closure.
        head, clock, take, give_back = self._head, self._clock, self._idle.pop, self._idle.append
        kind: type = _NONE  # of its last result: to compare costs less than to look it up
        # A result that somebody wants to see is never taken the short way.
        brief = 0 if self._classifier.failed_result else _BRIEF

        def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            nonlocal kind
            try:
                tally = take()
            except IndexError:
                tally = self._grow()
            if (word := head[WORD]) != tally.word:
                if word & 7 == _OPEN and 0 < (wait := head[UNTIL] - clock()) <= self._longest and not self.listeners:
                    # What `_reject` does, where nobody wants to hear of it.
                    tally.count(REJECTED)
                    self._row.free(tally)
                    raise CircuitOpenError(self.name, wait / 1e9)
                tally = self._admit(tally)
                if tally.scope:
                    enter(tally.scope)
                word = tally.word
            cells = tally.cells
            cells[STARTED] = started = clock()
            try:
                result = fn(*args, **kwargs) if kwargs else fn(*args)  # type: ignore[call-arg]  # there are none
            except BaseException as error:
                tally.started = started
                self._fail(tally, error)
                raise
            now = clock()
            if (
                (type(result) is kind or (type(result) in PROMPT and (kind := type(result))))
                and now < tally.slice_end
                and (elapsed := now - started) < brief
                and (
                    head[QUIET] == word or (now < head[QUIET_UNTIL] and not head[STREAK_ACTIVE] and head[WORD] == word)
                )
            ):
                # What `_settle` does, for a success in less than a millisecond that cannot change the state: no call
                # has failed lately, or none since a success and there are enough calls for the rates. A call that
                # takes longer does not notice the two microseconds of the long way.
                cells[SUCCESSES] = tally.fast_successes = tally.fast_successes + 1
                cells[ELAPSED] = tally.elapsed = tally.elapsed + elapsed
                cells[STARTED] = 0
                give_back(tally)
            else:
                tally.started = started
                self._succeed(tally, result, now)
            return result

        return guarded

    def guard(self) -> CallGuard:
        """Return a guard of one block of code: `with breaker.guard():` is right where `with breaker:` may not be.

        That is where the block ends in another thread, or in an exit stack of a coroutine, or where signal handlers
        raise exceptions.
        """
        return CallGuard(self)

    def __enter__(self) -> Counters:
        """Admit a block. It ends where it began: in its generator or coroutine, else in its thread.

        The tally's `probe` says whether it tries a circuit that was open.
        """
        return self._entered.enter(caller_context())

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._entered.leave(caller_context(), error)
