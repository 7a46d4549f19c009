"""A limit on the calls that a dependency gets at once, from all threads and processes of a host."""

from collections.abc import Callable
from functools import partial, wraps
from types import TracebackType
from typing import Any, Literal, ParamSpec, TypeVar, overload

from .breaker import CircuitBreaker
from .clocks import monotonic_ns, resolve_clock
from .config import BreakerConfig, nanoseconds
from .errors import BulkheadFullError, ConfigError
from .guard import CallGuard, ContextGuards, caller_context
from .handles import Handle, clock_argument
from .ledger.counters import Counters
from .ledger.probe_scope import enter
from .ledger.semaphore import Semaphore
from .state.deferred import require_now
from .states import ADMITTING

P = ParamSpec("P")
R = TypeVar("R")

#: seconds between two looks for a slot that another process gives back
PAUSE = 0.003


class Bulkhead(Handle):
    """Lets at most `limit` calls run at once through a breaker, in all processes that share its ledger.

    It offers what a breaker offers. Each call asks the breaker first: an open circuit refuses at once. One call more
    than the limit waits up to `wait` seconds for a slot, while it neither runs nor holds a permit, then raises
    BulkheadFullError; that is no outcome. The calls of a process wait in line, and the first in each line looks every
    few milliseconds for a slot that another process gave back. A slot is a lock of the kernel: it comes free when its
    process dies, and stays taken while its process is stopped, for its call is in flight. All bulkheads of a breaker
    share its slots; calls that go to the breaker itself take none.
    """

    def __init__(
        self, breaker: CircuitBreaker, limit: int, wait: float = 0.0, *, clock: Callable[[], int] = monotonic_ns
    ) -> None:
        check(limit, wait)
        #: asked first
        self.breaker = breaker
        #: calls that may run at once
        self.limit = limit
        #: seconds that a call waits for a slot
        self.wait = wait
        self._clock = resolve_clock(clock)
        breaker.slots(limit)  # the limit is noted for all to see
        self._entered = ContextGuards(self)

    def _origin(self) -> tuple[Any, ...]:
        return partial(Bulkhead, **clock_argument(self._clock)), self.breaker, self.limit, self.wait

    @property
    def name(self) -> str:
        """The breaker's name."""
        return self.breaker.name

    @property
    def _slots(self) -> Semaphore:
        return self.breaker.slots(self.limit)  # not kept: a breaker may go over to another ledger

    @property
    def config(self) -> BreakerConfig:
        """The breaker's thresholds in force."""
        return self.breaker.config

    def call(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Return fn(*args, **kwargs). Raises CircuitOpenError or BulkheadFullError, without calling fn."""
        require_now(fn)
        return self._guard(fn)(*args, **kwargs)

    def __call__(self, fn: Callable[P, R]) -> Callable[P, R]:
        """Guard a function. Raises TypeError for one whose call only makes a coroutine or a generator."""
        require_now(fn)
        return wraps(fn)(self._guard(fn))

    def _guard(self, fn: Callable[P, R]) -> Callable[P, R]:
        def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            tally = self.begin()
            if tally.scope:
                enter(tally.scope)
            try:
                result = fn(*args, **kwargs)
            except BaseException as error:
                self.finish(tally, error)
                raise
            self._leave(tally)
            self.breaker.answer(tally, result)
            return result

        return guarded

    def guard(self) -> CallGuard:
        """Return a guard of one block of code, as the breaker's `guard` does."""
        return CallGuard(self)

    def __enter__(self) -> Counters:
        return self._entered.enter(caller_context())

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._entered.leave(caller_context(), error)

    def begin(self) -> Counters:
        """Admit what is not a call. Whoever takes the tally must `finish` or `abandon` it.

        Raises CircuitOpenError, BulkheadFullError.
        """
        if not self.wait:
            return self._try(last=True)
        wait_ns = nanoseconds(self.wait)
        end, latest = self._clock() + wait_ns, monotonic_ns() + wait_ns  # a clock of somebody's own may stand still
        if (not self._slots.has_waiters or self.breaker.state not in ADMITTING) and (tally := self._try()):
            return tally
        with self._slots.wait_in_queue() as wait:
            while (left := min(end - self._clock(), latest - monotonic_ns()) / 1e9) > 0:
                if (wait(min(PAUSE, left)) or self.breaker.state not in ADMITTING) and (tally := self._try()):
                    return tally
            return self._try(last=True)

    @overload
    def _try(self) -> Counters | None: ...
    @overload
    def _try(self, *, last: Literal[True]) -> Counters: ...
    def _try(self, *, last: bool = False) -> Counters | None:
        """Return a tally that has a slot. Raises CircuitOpenError, and BulkheadFullError if this is the last try."""
        tally = self.breaker.begin()
        tally.permit = self._slots.take(self.limit)
        if tally.permit or tally.nested:  # the call around a nested one may have the slot that this one would wait for
            return tally
        self.breaker.withdraw(tally, full=last)
        if last:
            raise BulkheadFullError(self.name, self.limit)
        return None

    def finish(self, tally: Counters, error: BaseException | None) -> None:
        """Count how it ended."""
        self._leave(tally)
        self.breaker.finish(tally, error)

    def abandon(self, tally: Counters) -> None:
        """End it as neither a success nor a failure."""
        self._leave(tally)
        self.breaker.abandon(tally)

    def pause(self, tally: Counters, *, answered: bool = True) -> None:
        """Note that it waits for its caller. It keeps its slot."""
        self.breaker.pause(tally, answered=answered)

    def resume(self, tally: Counters) -> None:
        """Note that it waits for the dependency again."""
        self.breaker.resume(tally)

    def _leave(self, tally: Counters) -> None:
        # Before the call is counted, and its tally another's: what follows may be a listener that takes its time.
        slot, tally.permit = tally.permit, None
        if slot and slot.semaphore:
            slot.semaphore.give_back(slot)


def check(limit: int, wait: float) -> None:
    """Raise ConfigError for what no bulkhead can be made of."""
    if not isinstance(limit, int) or isinstance(limit, bool) or not 1 <= limit <= 10_000:
        raise ConfigError("limit", "be a whole number from 1 to 10000", limit)
    if not isinstance(wait, int | float) or isinstance(wait, bool) or not 0 <= wait <= 3600:
        raise ConfigError("wait", "be seconds from 0 to 3600", wait)
