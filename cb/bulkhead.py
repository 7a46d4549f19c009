"""A limit on the calls that a dependency gets at once, from all threads and processes of a host."""

from collections.abc import Callable
from functools import partial, wraps
from types import TracebackType
from typing import Any, Literal, ParamSpec, TypeVar, overload

from .breaker import CircuitBreaker, admission_of
from .call import Call
from .clocks import monotonic_ns, resolve_clock
from .config import BreakerConfig, Duration, nanoseconds, to_seconds
from .errors import BulkheadFullError, ConfigError
from .guard import CallGuard, ContextGuards, caller_context
from .handles import Handle, clock_argument
from .ledger.layout import BULKHEAD_LIMIT
from .ledger.semaphore import Semaphore
from .state.deferred import require_now
from .states import ADMITTING

P = ParamSpec("P")
R = TypeVar("R")

#: seconds between two looks for a permit that another process released
POLL_SECONDS = 0.003


class Bulkhead(Handle):
    """Limits the calls that run at once through a breaker, in all processes of a host that share its ledger.

    It has the entry points of a breaker. Each call asks the breaker first: an open circuit rejects it at once. A call
    above the limit waits up to `wait` seconds for a permit, during which it neither runs nor is a probe, then raises
    BulkheadFullError, which is no outcome. The calls of a process wait in a queue; the first of each queue looks every
    few milliseconds for a permit that another process released. A permit is a lock of the kernel: it is free when its
    process dies, and taken while its process is stopped. All bulkheads of a breaker share its permits; calls through
    the breaker itself take none.

    Args:
        breaker: Consulted first; counts the outcomes.
        limit: Number of calls that may run at once.
        wait: Seconds that a call waits for a permit.
        clock: Returns monotonic nanoseconds.

    Raises:
        ConfigError: `limit` is not from 1 to 10000, or `wait` not from 0 to 3600 s.
    """

    def __init__(
        self, breaker: CircuitBreaker, limit: int, wait: Duration = 0.0, *, clock: Callable[[], int] = monotonic_ns
    ) -> None:
        #: consulted first
        self.breaker = breaker
        #: number of calls that may run at once
        self.limit = limit
        #: seconds that a call waits for a permit
        self.wait = check(limit, wait)
        self._clock = resolve_clock(clock)
        self._circuit = admission_of(breaker).circuit
        self._entered = ContextGuards(self)
        self._semaphore()  # shows the limit in snapshots

    def _origin(self) -> tuple[Any, ...]:
        return partial(Bulkhead, **clock_argument(self._clock)), self.breaker, self.limit, self.wait

    def __repr__(self) -> str:
        return f"<Bulkhead {self.name!r}, {self.limit} calls at once, {self.breaker.state}>"

    @property
    def name(self) -> str:
        """The breaker's name."""
        return self.breaker.name

    @property
    def config(self) -> BreakerConfig:
        """The breaker's thresholds in force."""
        return self.breaker.config

    def call(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Return fn(*args, **kwargs). Raises CircuitOpenError or BulkheadFullError, without calling fn."""
        require_now(fn)
        return self._guard(fn)(*args, **kwargs)

    def __call__(self, fn: Callable[P, R]) -> Callable[P, R]:
        """Decorate a function. Raises TypeError for a coroutine or generator function."""
        require_now(fn)
        return wraps(fn)(self._guard(fn))

    def _guard(self, fn: Callable[P, R]) -> Callable[P, R]:
        def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            call = self.begin()
            call.enclose()
            try:
                result = fn(*args, **kwargs)
            except BaseException as error:
                call.fail(error)
                raise
            call.succeed(result)
            return result

        return guarded

    def guard(self) -> CallGuard:
        """Return a context manager that guards one block, as `CircuitBreaker.guard` does."""
        return CallGuard(self)

    def __enter__(self) -> Call:
        """Guard a block, as `with breaker:` does."""
        return self._entered.enter(caller_context())

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._entered.leave(caller_context(), error)

    def begin(self) -> Call:
        """Admit a call that the caller runs itself. Settle the returned call exactly once.

        Raises CircuitOpenError or BulkheadFullError.
        """
        if not self.wait:
            return self._try(last=True)
        wait_ns = nanoseconds(self.wait)
        end, latest = self._clock() + wait_ns, monotonic_ns() + wait_ns  # the clock that was passed may stand still
        semaphore = self._semaphore()
        if (not semaphore.has_waiters or self.breaker.state not in ADMITTING) and (call := self._try()):
            return call
        with semaphore.wait_in_queue() as wait:
            while (left := min(end - self._clock(), latest - monotonic_ns()) / 1e9) > 0:
                if (wait(min(POLL_SECONDS, left)) or self.breaker.state not in ADMITTING) and (call := self._try()):
                    return call
            return self._try(last=True)

    @overload
    def _try(self) -> Call | None: ...
    @overload
    def _try(self, *, last: Literal[True]) -> Call: ...
    def _try(self, *, last: bool = False) -> Call | None:
        """Return a call with a permit. Raises CircuitOpenError, and BulkheadFullError if this is the last try."""
        call = self.breaker.begin()
        if call.occupy(self._semaphore(), self.limit):
            return call
        call.cancel(full=last)
        if last:
            raise BulkheadFullError(self.name, self.limit)
        return None

    def _semaphore(self) -> Semaphore:
        """Return the semaphore of the breaker's record. Not kept: a breaker may move to another ledger."""
        self._circuit.head[BULKHEAD_LIMIT] = self.limit
        return self._circuit.record.semaphore


def check(limit: int, wait: Duration) -> float:
    """Return the seconds of `wait`. Raises ConfigError for arguments that no bulkhead can have."""
    if not isinstance(limit, int) or isinstance(limit, bool) or not 1 <= limit <= 10_000:
        raise ConfigError("limit", "be a whole number from 1 to 10000", limit)
    seconds = to_seconds(wait, "wait", "be seconds from 0 to 3600")
    if not 0 <= seconds <= 3600:
        raise ConfigError("wait", "be seconds from 0 to 3600", wait)
    return seconds
