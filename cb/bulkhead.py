"""A limit on the calls that a dependency gets at once, from all threads and processes of a host."""

from collections.abc import Awaitable, Callable
from functools import partial, wraps
from typing import Any, Literal, ParamSpec, TypeVar, overload

from .asynchronous import completing, guard_coroutine, guard_generator, is_coroutine_function, is_generator_function
from .background.event_loop import Wakeup, can_sleep, on_event_loop, sleep
from .breaker import CircuitBreaker, admission_of
from .call import Call
from .clocks import monotonic_ns, resolve_clock
from .config import BreakerConfig, Duration, nanoseconds, to_seconds
from .errors import BulkheadFullError, ConfigError
from .guard import BlockGuard, CallGuard, ContextGuards, begin_async
from .handles import Handle, clock_argument
from .ledger.layout import BULKHEAD_LIMIT
from .ledger.semaphore import TRIED_AT_ONCE, Semaphore
from .state.deferred import require_now
from .states import ADMITTING, counted

P = ParamSpec("P")
R = TypeVar("R")

#: seconds between two looks for a permit that another process released
POLL_SECONDS = 0.003
#: seconds between two looks of a task that is not the first of its queue, and is woken when it is
_QUEUED_SECONDS = 1.0


class Bulkhead(Handle, BlockGuard):
    """Limits the calls that run at once through a breaker, in all processes of a host that share its ledger.

    It has the entry points of a breaker. Each call asks the breaker first: an open circuit rejects it at once. A call
    above the limit waits up to `wait` seconds for a permit, during which it neither runs nor is a probe, then raises
    BulkheadFullError, which is no outcome. The calls of a process wait in a queue; the first of each queue looks every
    few milliseconds for a permit that another process released. A permit is a lock of the kernel: it is free when its
    process dies, and taken while its process is stopped. Tasks of an event loop wait in the same queue, in `acall`, a
    decorated coroutine or `async with`; the other entry points do not wait in a thread that runs a loop. All bulkheads
    of a breaker share its permits; calls through the breaker itself take none.

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
        return f"<Bulkhead {self.name!r}, {counted(self.limit, 'call')} at once, {self.breaker.state}>"

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

    @overload
    async def acall(self, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    async def acall(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    async def acall(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Return the result of fn(*args, **kwargs), as `CircuitBreaker.acall` does.

        Raises CircuitOpenError or BulkheadFullError, without calling fn.
        """
        return await guard_coroutine(self._begin_async, completing(fn))(*args, **kwargs)

    def __call__(self, fn: Callable[P, R]) -> Callable[P, R]:
        """Decorate a function, as `@breaker` does. Raises TypeError for a generator function."""
        guarded: Any
        if is_coroutine_function(fn):
            guarded = wraps(fn)(guard_coroutine(self._begin_async, completing(fn)))
            return guarded  # type: ignore[no-any-return]  # of the type of fn
        if is_generator_function(fn):
            guarded = guard_generator(self._begin_async, fn)  # type: ignore[arg-type]  # as just found
            return guarded  # type: ignore[no-any-return]  # of the type of fn
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
        if on_event_loop():
            return self._try(last=True)
        with semaphore.wait_in_queue() as wait:
            while (left := min(end - self._clock(), latest - monotonic_ns()) / 1e9) > 0:
                if (wait(min(POLL_SECONDS, left)) or self.breaker.state not in ADMITTING) and (call := self._try()):
                    return call
            return self._try(last=True)

    async def _begin_async(self) -> Call:
        if not self.wait or not can_sleep():
            return await self._try_async(last=True)
        wait_ns = nanoseconds(self.wait)
        end, latest = self._clock() + wait_ns, monotonic_ns() + wait_ns
        semaphore = self._semaphore()
        if (not semaphore.has_waiters or self.breaker.state not in ADMITTING) and (call := await self._try_async()):
            return call
        wakeup, pause = Wakeup(), POLL_SECONDS
        with semaphore.queued(wakeup):
            while (left := min(end - self._clock(), latest - monotonic_ns()) / 1e9) > 0:
                await wakeup.wait(min(pause, left))
                first = semaphore.is_first(wakeup)
                pause = POLL_SECONDS if first else _QUEUED_SECONDS
                if (first or self.breaker.state not in ADMITTING) and (call := await self._try_async()):
                    return call
            return await self._try_async(last=True)

    @overload
    async def _try_async(self) -> Call | None: ...
    @overload
    async def _try_async(self, *, last: Literal[True]) -> Call: ...
    async def _try_async(self, *, last: bool = False) -> Call | None:
        """Return a call as `_try` does. Other tasks run between its looks at very many permits."""
        call = await begin_async(self.breaker)
        if not can_sleep():
            return self._occupied(call, last=last)
        tried = set[int]()
        for left in range(self.limit, 0, -TRIED_AT_ONCE):
            if call.occupy(self._semaphore(), self.limit, tried):
                return call
            if left > TRIED_AT_ONCE:
                try:
                    await sleep(0)
                except BaseException:
                    call.cancel()
                    raise
        self._cancel(call, last=last)
        return None

    @overload
    def _try(self) -> Call | None: ...
    @overload
    def _try(self, *, last: Literal[True]) -> Call: ...
    def _try(self, *, last: bool = False) -> Call | None:
        """Return a call with a permit. Raises CircuitOpenError, and BulkheadFullError if this is the last try."""
        return self._occupied(self.breaker.begin(), last=last)

    def _occupied(self, call: Call, *, last: bool) -> Call | None:
        """Return an admitted call with a permit. Without one, cancel it; raise BulkheadFullError at the last try."""
        if call.occupy(self._semaphore(), self.limit):
            return call
        self._cancel(call, last=last)
        return None

    def _cancel(self, call: Call, *, last: bool) -> None:
        """Cancel a call that has no permit. Raise BulkheadFullError if this is the last try."""
        call.cancel(full=last)
        if last:
            raise BulkheadFullError(self.name, self.limit)

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
