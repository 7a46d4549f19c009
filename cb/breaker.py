"""The circuit breaker: the quick path of a call. `admission` has the slow path."""

from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from .admission import Admission
from .asynchronous import (
    completing,
    falling_back_async,
    guard_generator,
    is_coroutine_function,
    is_generator_function,
)
from .background.fork import FORK_MARK, detect_fork
from .background.watchdog import WATCHDOG
from .call import Call
from .circuit import Circuit
from .clocks import monotonic_ns, resolve_clock, wall_ns
from .config import BreakerConfig
from .control import BreakerControl
from .errors import CircuitOpenError, ConfigError
from .events import Listener
from .fallback import F, V, falling_back, reraise
from .guard import BlockGuard, CallGuard, ContextGuards
from .handles import Handle, clock_argument
from .ledger.layout import BOUNDS, ELAPSED, QUIET, QUIET_UNTIL, REJECTED, STARTED, STREAK_ACTIVE, SUCCESSES, UNTIL, WORD
from .ledger.ledger import Ledger
from .ledger.probe_scope import enter
from .snapshot import Snapshot, Stats, snapshot_of, stats_of
from .state.deferred import PROMPT, require_now
from .state.outcome import Classifier, ErrorFilter
from .states import CODES, State

if TYPE_CHECKING:
    from .fallback import AsyncFallingBack, FallingBack

_OPEN = CODES[State.OPEN]
_BRIEF = BOUNDS[0]
_NONE: type = type(None)
P = ParamSpec("P")
R = TypeVar("R")


class CircuitBreaker(Handle, BlockGuard):
    """Rejects calls to a dependency that fails, for all threads and processes that share a ledger.

    Guard calls with `breaker.call(fn)`, `@breaker`, `with breaker:`, `with breaker.guard():` or `breaker.begin()`; in
    coroutines with `await breaker.acall(fn)`, `@breaker`, `async with breaker:` or `async with breaker.guard():`.

    Args:
        name: Name of the dependency, the same in all processes.
        config: Thresholds. They replace those of an earlier release of the service.
        ledger: Where the state is kept. By default in the memory of this process.
        shared: True keeps the state in the ledger of the project that the calling module belongs to, or of $CB_LEDGER:
            all its processes on this host share the breaker.
        failures: Exceptions that are failures: classes, or a predicate of the exception. Any other exception is an
            answer of the dependency, and counts as a success.
        ignored: Exceptions that count as neither success nor failure: classes, or a predicate.
        failed_result: Predicate of the returned values that are failures.
        listeners: Called with every `Event` of the breaker in this process.
        clock: Returns monotonic nanoseconds. With a clock of its own, a breaker is evaluated by `control.evaluate()`
            alone, and not by a background thread.
        wall_clock: Returns nanoseconds since the epoch, for the log of transitions.

    Raises:
        ConfigError: An argument breaks a rule.
    """

    def __init__(
        self,
        name: str,
        config: BreakerConfig | None = None,
        *,
        ledger: Ledger | None = None,
        shared: bool = False,
        failures: ErrorFilter = (Exception,),
        ignored: ErrorFilter = (),
        failed_result: Callable[[Any], bool] | None = None,
        listeners: Sequence[Listener] = (),
        clock: Callable[[], int] = monotonic_ns,
        wall_clock: Callable[[], int] = wall_ns,
    ) -> None:
        classifier = Classifier(failures, ignored, failed_result)
        if shared:
            if ledger is not None:
                raise ConfigError("shared", "be False where a ledger is given", shared)
            ledger = project_ledger()
        if config is not None and not isinstance(config, BreakerConfig):
            raise ConfigError("config", "be a BreakerConfig", config)
        self._given = config or BreakerConfig()
        self._circuit = Circuit(
            name,
            self._given,
            ledger or Ledger.in_memory(),
            listeners=listeners,
            clock=clock,
            wall_clock=wall_clock,
        )
        self._admission = Admission(self._circuit, classifier)
        # Results that `failed_result` must see never take the quick path.
        self._brief = 0 if failed_result else _BRIEF
        self._entered = ContextGuards(self)
        if resolve_clock(clock) is monotonic_ns:
            WATCHDOG.add(self._circuit)

    def _origin(self) -> tuple[Any, ...]:
        options = {
            "ledger": self.ledger,
            **self._admission.classifier.rules,
            **clock_argument(self._circuit.clock),
        }
        return partial(type(self), **options), self.name, self._given

    def __repr__(self) -> str:
        return f"<CircuitBreaker {self._circuit}>"

    @property
    def name(self) -> str:
        """Name of the dependency."""
        return self._circuit.name

    @property
    def ledger(self) -> Ledger:
        """The ledger that was passed. While it has no room for the breaker, the state is in this process alone."""
        return self._circuit.ledger

    @property
    def listeners(self) -> list[Listener]:
        """Listeners of this process, called with every `Event`. Add to the list or remove from it at any time."""
        return self._circuit.listeners

    @listeners.setter
    def listeners(self, listeners: Iterable[Listener]) -> None:
        self._circuit.listeners[:] = listeners

    @property
    def control(self) -> BreakerControl:
        """Operators' actions: `force_open`, `disable`, `metrics_only`, `reset`, `configure`, `evaluate`."""
        return BreakerControl(self._circuit)

    @property
    def state(self) -> State:
        """The circuit's state. An OPEN circuit whose time is up stays OPEN until the next call, which is a probe."""
        return self._circuit.state

    @property
    def config(self) -> BreakerConfig:
        """The thresholds in force, the same in all processes."""
        return self._circuit.config

    def call(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Return fn(*args, **kwargs). Raises CircuitOpenError, without calling fn, when the circuit rejects it."""
        if not FORK_MARK[0]:
            detect_fork()
        require_now(fn)
        return self._guard(fn)(*args, **kwargs)

    @overload
    async def acall(self, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    async def acall(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    async def acall(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Return the result of fn(*args, **kwargs), awaited if it is a coroutine, a Future or another awaitable.

        The call lasts until then. Raises CircuitOpenError, without calling fn, when the circuit rejects it, and
        TypeError for a result that is neither complete nor awaitable, such as a generator.
        """
        if not FORK_MARK[0]:
            detect_fork()
        return await self._guard_async(completing(fn))(*args, **kwargs)

    @overload
    def __call__(self, fn: Callable[P, R]) -> Callable[P, R]: ...
    @overload
    def __call__(
        self, fn: Callable[P, Coroutine[Any, Any, R]], *, fallback: Callable[[Exception], Coroutine[Any, Any, F]]
    ) -> Callable[P, Coroutine[Any, Any, R | F]]: ...
    @overload
    def __call__(
        self, fn: Callable[P, Coroutine[Any, Any, R]], *, fallback: Callable[[Exception], F] | V
    ) -> Callable[P, Coroutine[Any, Any, R | F | V]]: ...
    @overload
    def __call__(self, fn: Callable[P, R], *, fallback: Callable[[Exception], F] | V) -> Callable[P, R | F | V]: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]  # the other one also takes functions that return coroutines
        self, *, fallback: Callable[[Exception], Coroutine[Any, Any, F]]
    ) -> "AsyncFallingBack[F]": ...
    @overload
    def __call__(self, *, fallback: Callable[[Exception], F] | V) -> "FallingBack[F | V]": ...
    def __call__(self, fn: Any = None, *, fallback: Any = reraise) -> Any:
        """Decorate a function, a coroutine function or an asynchronous generator function.

        A coroutine is guarded until it is done, and an asynchronous generator until it ends or is closed. Any other
        function that returns before its work is done cannot be guarded: a generator function raises TypeError here,
        and a plain function that returns a coroutine, a generator or a Future raises it when called, which counts as
        neither success nor failure (`acall` awaits what a function returns).

        Args:
            fn: The function.
            fallback: A value, or a function of the exception (for coroutines also a coroutine function), returned where
                the circuit rejects the call or the call fails. The breaker counts the same outcomes as without.
                Exceptions that are answers or `ignored` are raised, and a result for which `failed_result` is true is
                returned.
        """
        if fn is None and fallback is not reraise:
            return partial(self, fallback=fallback)
        if is_coroutine_function(fn):
            awaited = wraps(fn)(self._guard_async(fn))
            return awaited if fallback is reraise else falling_back_async(awaited, fallback, self.is_failure)
        if is_generator_function(fn) and fallback is reraise:
            return guard_generator(self._begin_async, fn)
        require_now(fn)
        if is_coroutine_function(fallback):
            raise TypeError(f"the fallback {fallback!r} is a coroutine function, and {fn!r} is none")
        guarded = wraps(fn)(self._guard(fn))
        return guarded if fallback is reraise else falling_back(guarded, fallback, self.is_failure)

    def is_failure(self, error: Exception) -> bool:
        """Return True if a call that ends with this exception has failed, or was rejected by this breaker."""
        return self._admission.missed(error)

    def _guard(self, fn: Callable[P, R]) -> Callable[P, R]:
        # A closure and not a method: all that a quick call needs is in its cells.
        circuit = self._circuit
        head, clock, idle = circuit.head, circuit.clock, circuit.record.idle
        take, give_back = idle.pop, idle.append
        kind: type = _NONE  # of the last result: a comparison costs less than a look-up
        brief = self._brief

        def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            nonlocal kind
            try:
                counters = take()
            except IndexError:
                counters = self._admission.grow()
            if (word := head[WORD]) != counters.word:
                if (
                    word & 7 == _OPEN
                    and 0 < (wait := head[UNTIL] - clock()) <= (own := self._circuit).longest
                    and not own.listeners
                ):
                    # As `Admission._reject` does, where there are no listeners.
                    counters.count(REJECTED)
                    own.record.free(counters)
                    raise CircuitOpenError(own.name, wait / 1e9)
                counters = self._admission.admit(counters)
                if counters.scope:
                    enter(counters.scope)
                word = counters.word
            cells = counters.cells
            cells[STARTED] = started = clock()
            try:
                result = fn(*args, **kwargs) if kwargs else fn(*args)  # type: ignore[call-arg]  # there are none
            except BaseException as error:
                counters.started = started
                self._admission.fail(counters, error)
                raise
            now = clock()
            if (
                (type(result) is kind or (type(result) in PROMPT and (kind := type(result))))
                and now < counters.slice_end
                and (elapsed := now - started) < brief
                and (
                    head[QUIET] == word or (now < head[QUIET_UNTIL] and not head[STREAK_ACTIVE] and head[WORD] == word)
                )
            ):
                # As `Admission.settle` does, for a success in less than a millisecond that cannot change the state: no
                # call has failed lately, or none since a success and there are enough calls for the rates. For a longer
                # call the two microseconds of `settle` make no difference.
                cells[SUCCESSES] = counters.fast_successes = counters.fast_successes + 1
                cells[ELAPSED] = counters.elapsed = counters.elapsed + elapsed
                cells[STARTED] = 0
                give_back(counters)
            else:
                counters.started = started
                self._admission.succeed(counters, result, now)
            return result

        return guarded

    def _guard_async(self, fn: Callable[P, Awaitable[R]]) -> Callable[P, Coroutine[Any, Any, R]]:
        # As `_guard`, statement by statement; a test compares the two.
        circuit = self._circuit
        head, clock, idle = circuit.head, circuit.clock, circuit.record.idle
        take, give_back = idle.pop, idle.append
        kind: type = _NONE
        brief = self._brief

        async def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            nonlocal kind
            try:
                counters = take()
            except IndexError:
                counters = self._admission.grow()
            if (word := head[WORD]) != counters.word:
                if (
                    word & 7 == _OPEN
                    and 0 < (wait := head[UNTIL] - clock()) <= (own := self._circuit).longest
                    and not own.listeners
                ):
                    counters.count(REJECTED)
                    own.record.free(counters)
                    raise CircuitOpenError(own.name, wait / 1e9)
                counters = await self._admission.admit_async(counters)
                if counters.scope:
                    enter(counters.scope)
                word = counters.word
            cells = counters.cells
            cells[STARTED] = started = clock()
            try:
                result = await fn(*args, **kwargs) if kwargs else await fn(*args)  # type: ignore[call-arg]  # there are none
            except BaseException as error:
                counters.started = started
                self._admission.fail(counters, error)
                raise
            now = clock()
            if (
                (type(result) is kind or (type(result) in PROMPT and (kind := type(result))))
                and now < counters.slice_end
                and (elapsed := now - started) < brief
                and (
                    head[QUIET] == word or (now < head[QUIET_UNTIL] and not head[STREAK_ACTIVE] and head[WORD] == word)
                )
            ):
                cells[SUCCESSES] = counters.fast_successes = counters.fast_successes + 1
                cells[ELAPSED] = counters.elapsed = counters.elapsed + elapsed
                cells[STARTED] = 0
                give_back(counters)
            else:
                counters.started = started
                self._admission.succeed(counters, result, now)
            return result

        return guarded

    async def _begin_async(self) -> Call:
        return Call(self._admission, await self._admission.begin_async())

    def begin(self) -> Call:
        """Admit a call that the caller runs itself. Settle the returned call exactly once. Raises CircuitOpenError.

        The call may be settled in any thread. Calls that begin meanwhile are not part of it, as they are in a function
        or a block.
        """
        return Call(self._admission, self._admission.begin())

    def guard(self) -> CallGuard:
        """Return a context manager that guards one block: `with breaker.guard() as call:`.

        Use it instead of `with breaker:` for a block that ends in another thread, in an exit stack of a coroutine, or
        in a program whose signal handlers raise exceptions.
        """
        return CallGuard(self)

    def snapshot(self) -> Snapshot:
        """Return state, counts, window and thresholds at one moment, summed over all processes."""
        WATCHDOG.start()
        circuit = self._circuit
        return snapshot_of(self.name, circuit.record, circuit.config, circuit.core.scope, circuit.clock())

    def stats(self) -> Stats:
        """Return the counters and gauges, summed over all processes: part of the snapshot, at a third of its cost."""
        WATCHDOG.start()
        circuit = self._circuit
        return stats_of(self.name, circuit.record, circuit.config, circuit.clock())

    def explain(self) -> str:
        """Return one sentence: why the breaker is in its state, and what would change it."""
        return self.snapshot().why


def project_ledger() -> Ledger:
    """Return the ledger of the project that the caller of this library belongs to, or of $CB_LEDGER."""
    from .ledger.opened import default_ledger  # not above: a breaker in memory or in a given ledger needs neither
    from .ledger.project import calling_namespace

    return default_ledger(calling_namespace())


def admission_of(breaker: CircuitBreaker) -> Admission:
    """Return the internals of a breaker, for what is built on it: a bulkhead, health probes."""
    return breaker._admission  # noqa: SLF001 - the one door to it
