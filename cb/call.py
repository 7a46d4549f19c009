"""The token of a call that its caller runs itself."""

from typing import Final

from .admission import Admission
from .ledger.counters import Counters
from .ledger.layout import state_of
from .ledger.probe_scope import enter, step_out
from .ledger.semaphore import Semaphore
from .states import Outcome, State

_NO_RESULT: Final = object()


class Call:
    """One admitted call. Settle it once with `succeed`, `fail` or `discard`; the first one counts, others do nothing.

    A call may be settled in another thread than the one that began it. One that is dropped without being settled counts
    as neither a success nor a failure.
    """

    __slots__ = ("_admission", "_counters")

    def __init__(self, admission: Admission, counters: Counters) -> None:
        self._admission = admission
        #: None once the call is settled: the counters are then those of another call
        self._counters: Counters | None = counters

    def __repr__(self) -> str:
        counters = self._counters
        kind = "settled" if counters is None else "probe" if counters.probe else "running"
        return f"<Call of {self._admission.circuit.name!r}, {kind}>"

    @property
    def probe(self) -> bool:
        """True while the call runs as a probe of a half-open circuit."""
        return self._counters is not None and self._counters.probe

    @property
    def state(self) -> State:
        """The state that admitted the call; that of the circuit once the call is settled."""
        counters = self._counters
        return state_of(counters.word) if counters is not None and counters.word >= 0 else self._admission.circuit.state

    def succeed(self, result: object = _NO_RESULT) -> None:
        """Count a success, or a failure if the breaker's `failed_result` is true of the result.

        Raises TypeError for a result that is still to come, such as a coroutine or a Future.
        """
        if (counters := self._release()) is None:
            return
        admission = self._admission
        now = admission.circuit.clock()
        if result is _NO_RESULT:
            admission.settle(counters, Outcome.SUCCESS, now)
        else:
            admission.succeed(counters, result, now)

    def fail(self, error: BaseException) -> None:
        """Count the outcome that the breaker's rules give to an exception: failure, success or neither."""
        if (counters := self._release()) is not None:
            self._admission.fail(counters, error)

    def discard(self) -> None:
        """Count the call as neither a success nor a failure."""
        if (counters := self._release()) is not None:
            self._admission.settle(counters, Outcome.NEUTRAL, self._admission.circuit.clock())

    def cancel(self, *, full: bool = False) -> None:
        """Undo the admission: nothing was called, nothing is counted but, with `full`, a rejection by a bulkhead."""
        if (counters := self._release()) is not None:
            self._admission.cancel(counters, full=full)

    def pause(self, *, answered: bool = True) -> None:
        """Stop the clock: the call waits for its caller, not for the dependency. `resume` it before settling it.

        A paused probe is not overdue if the dependency has `answered`.
        """
        if self._counters is not None:
            self._counters.pause(self._admission.circuit.clock(), answered=answered)

    def resume(self) -> None:
        """Start the clock again."""
        if self._counters is not None:
            self._counters.resume(self._admission.circuit.clock())

    def enclose(self) -> None:
        """Make later calls of the running code part of this one: inside a probe, they need no permit."""
        counters = self._counters
        if counters is not None and counters.scope:
            enter(counters.scope)

    def leave(self) -> None:
        """Make later calls of the running code no part of this one, until `enclose` is called again."""
        counters = self._counters
        if counters is not None and counters.scope:
            step_out(counters.scope)

    def occupy(self, semaphore: Semaphore, limit: int, tried: set[int] | None = None) -> bool:
        """Take a permit of a bulkhead for the time of the call. Return False if there is none.

        A call inside a probe needs none: the call around it may hold the permit that this one would wait for.
        """
        counters = self._counters
        if counters is None:
            return False
        counters.permit = semaphore.take(limit, tried)  # kept there, so that it is freed if the call is cut off
        return counters.permit is not None or counters.nested

    def _release(self) -> Counters | None:
        """Return the counters, to be settled by the caller; None if they were before. Free the bulkhead's permit."""
        counters, self._counters = self._counters, None
        # Freed before the outcome is counted: a slow listener must not keep the permit.
        if counters is not None and counters.permit is not None:
            permit, counters.permit = counters.permit, None
            if permit.semaphore:
                permit.semaphore.give_back(permit)
        return counters
