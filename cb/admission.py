"""Admission and settlement of calls that the quick path of `CircuitBreaker` does not cover."""

from contextlib import suppress
from typing import NoReturn

from .background.event_loop import can_sleep, sleep
from .background.fork import FORK_MARK, detect_fork
from .background.watchdog import WATCHDOG
from .circuit import Circuit
from .clocks import monotonic
from .config import nanoseconds
from .errors import BulkheadFullError, CircuitOpenError, LedgerBusyError
from .events import Event, LateResult, Rejected, announce
from .failures import RESULT, SLOW_PROBE
from .ledger import layout as at
from .ledger.core import CHECK_INTERVAL_NS, LOCK_TIMEOUT_SECONDS
from .ledger.counters import DETACHED, Counters
from .ledger.layout import generation_of, state_of
from .ledger.probe_scope import ProbeScope, inside, leave
from .state.deferred import PROMPT
from .state.failure_text import describe
from .state.outcome import Classifier, history, is_interruption, leaves
from .state.retry_after import of_error
from .states import ADMITTING, Outcome, State

_BRIEF = at.BOUNDS[0]
_REJECTIONS = (CircuitOpenError, BulkheadFullError)
#: seconds between two attempts of a task to get the lock
_RETRY_SECONDS = 0.001


class Admission:
    """Internal: admits the calls of one breaker, counts their outcomes, and has the state changed where they demand it.

    Each admitted call holds `Counters`, which are settled or cancelled exactly once.
    """

    def __init__(self, circuit: Circuit, classifier: Classifier) -> None:
        self.circuit = circuit
        self.classifier = classifier
        self._marked = 0  # when the ledger last noted that this process counts calls
        self._waiting = 0  # tasks that wait for the lock of the ledger

    def begin(self) -> Counters:
        """Admit a call that starts now. Raises CircuitOpenError."""
        if not FORK_MARK[0]:
            detect_fork()
        counters = self.take()
        circuit = self.circuit
        if counters.word == circuit.head[at.WORD]:
            counters.cells[at.STARTED] = counters.started = circuit.clock()
            return counters
        return self.admit(counters)

    async def begin_async(self) -> Counters:
        """Admit a call that starts now, without holding the event loop. Raises CircuitOpenError."""
        if not FORK_MARK[0]:
            detect_fork()
        counters = self.take()
        circuit = self.circuit
        if counters.word == circuit.head[at.WORD]:
            counters.cells[at.STARTED] = counters.started = circuit.clock()
            return counters
        return await self.admit_async(counters)

    def take(self) -> Counters:
        """Return free counters of the pool."""
        try:
            return self.circuit.record.idle.pop()
        except IndexError:
            return self.grow()

    def grow(self) -> Counters:
        """Return new counters: the pool is empty, as in the first call of a process."""
        if not FORK_MARK[0]:
            detect_fork()
        WATCHDOG.start()
        self.circuit.notify_degraded()
        circuit, now = self.circuit, self.circuit.clock()
        counters = circuit.record.grow(now)
        circuit.core.shards.report_programs_once(now)
        circuit.log_replaced()
        return counters

    def admit(self, counters: Counters) -> Counters:
        """Admit a call whose counters were last used in another state. Return its counters. Raises CircuitOpenError."""
        now = self.circuit.clock()
        counters = self._usable(counters, now)
        if not self._admits(counters, now):
            self._reject(counters, self.circuit.state, now)
        return counters

    async def admit_async(self, counters: Counters) -> Counters:
        """Admit a call as `admit` does. A probe for which the lock is taken waits for it without holding the loop."""
        now = self.circuit.clock()
        counters = self._usable(counters, now)
        admitted = self._admits(counters, now)
        # No more tasks wait than there can be probes: with very many, their attempts would hold the loop.
        if admitted is None and self._waiting < self.circuit.machine.config.max_requests and can_sleep():
            end = monotonic() + LOCK_TIMEOUT_SECONDS
            self._waiting += 1
            try:
                while admitted is None and monotonic() < end:
                    self.circuit.record.free(counters)  # a task that is cancelled while it sleeps holds none
                    await sleep(_RETRY_SECONDS)
                    now = self.circuit.clock()
                    counters = self._usable(self.take(), now)
                    admitted = self._admits(counters, now)
            finally:
                self._waiting -= 1
        if not admitted:
            self._reject(counters, self.circuit.state, now)
        return counters

    def _usable(self, counters: Counters, now: int) -> Counters:
        """Return the counters, or others if their cells are gone, after a fork or with the ledger."""
        circuit = self.circuit
        if not FORK_MARK[0]:
            detect_fork()
        circuit.core.check(circuit.record, now)
        while counters.word == DETACHED:
            counters = self.take()
        return counters

    def admit_check(self) -> Counters | None:
        """Admit a health check as a probe. Return None if the circuit needs none now; no rejection is counted."""
        if not FORK_MARK[0]:
            detect_fork()
        circuit = self.circuit
        circuit.core.check(circuit.record, circuit.clock())
        now, word = circuit.clock(), circuit.head[at.WORD]
        if state_of(word) in ADMITTING or not self._due(word, now, prober=True):
            return None
        counters = self.take()
        if not self._admits(counters, now, prober=True):
            circuit.record.free(counters)
            return None
        if not counters.probe:  # the circuit has closed meanwhile
            self.settle(counters, Outcome.NEUTRAL, circuit.clock())
            return None
        return counters

    def cancel(self, counters: Counters, *, full: bool) -> None:
        """Undo an admission: nothing was called, and there is no outcome. `full` counts a rejection by a bulkhead."""
        if counters.word == DETACHED:
            return
        if full:
            counters.count(at.FULL)
        if counters.permitted:
            counters.end_probe(at.ROUND_RETURNED)
        counters.cells[at.STARTED] = 0
        if counters.probe:
            self._probe_ended(counters)
        self.circuit.record.free(counters)

    def succeed(self, counters: Counters, result: object, now: int) -> None:
        """Settle a call that returned. Raises TypeError for a result that is still to come."""
        outcome = Outcome.SUCCESS
        try:
            if type(result) in PROMPT and not self.classifier.failed_result:
                pass  # as almost always
            elif self.classifier.result(result) is Outcome.FAILURE:
                outcome = Outcome.FAILURE
                self.circuit.record.note_failure(
                    now, RESULT, message=f"failed_result is true of a {type(result).__name__}"
                )
        except BaseException:
            self.settle(counters, Outcome.NEUTRAL, now)
            raise
        self.settle(counters, outcome, now)

    def fail(self, counters: Counters, error: BaseException) -> None:
        """Settle a call that raised, with the outcome that the breaker's rules give to the exception."""
        circuit = self.circuit
        now, outcome = circuit.clock(), Outcome.NEUTRAL
        try:
            if self.lacks_permit(counters, error):
                return
            if not self._rejected(error):
                elapsed = now - counters.started
                outcome, failed = self.classifier.judge(error, elapsed >= circuit.slow, self._rejected)
                if outcome is Outcome.FAILURE:
                    interrupted = f"interrupted after {elapsed / 1e9:.1f} s" if is_interruption(failed) else ""
                    self.note_failure(error, now, failed=failed, message=interrupted)
            elif counters.permitted:
                outcome = Outcome.FAILURE
                self.note_failure(error, now)
        finally:
            self.settle(counters, outcome, now)

    def settle(self, counters: Counters, outcome: Outcome, now: int) -> None:
        """Count an outcome, free the counters, and change the state if the outcome demands it."""
        if not FORK_MARK[0]:
            detect_fork()
        circuit = self.circuit
        head, word = circuit.head, counters.word
        if (
            outcome is Outcome.SUCCESS
            and now < counters.slice_end
            and head[at.QUIET] == word
            and counters.head is head  # else the breaker has moved to another record meanwhile
            and (elapsed := now - counters.started) < _BRIEF
        ):
            # A quick success that cannot change the state, as in `CircuitBreaker`.
            cells = counters.cells
            cells[at.SUCCESSES] = counters.fast_successes = counters.fast_successes + 1
            cells[at.ELAPSED] = counters.elapsed = counters.elapsed + elapsed
            cells[at.STARTED] = 0
            circuit.record.idle.append(counters)
            return
        if not 0 <= now - self._marked < CHECK_INTERVAL_NS:
            self._marked = now
            circuit.core.heartbeat(now)
        if word == DETACHED:
            return
        state, slow, late = state_of(word), now - counters.started >= circuit.slow, False
        turned = now >= counters.slice_end
        if head[at.WORD] != word:
            counters.slice_end = 0  # new thresholds may have moved the window
            late = generation_of(head[at.WORD]) != generation_of(word)
        if state is State.DISABLED and not late:
            outcome = Outcome.NEUTRAL
        try:
            self._count(counters, outcome, slow, late, now)
        except ValueError:  # a number exceeds its cell
            circuit.core.check(circuit.record, now, valid=False)
            return
        if state is State.HALF_OPEN:
            self._probe_ended(counters)
        circuit.record.free(counters)
        if turned:
            WATCHDOG.start()  # once in a slice of the window, for a process whose calls are all quick
        if late:
            announce(circuit.listeners, [LateResult(circuit.name, outcome)])
        elif slow or outcome is not Outcome.SUCCESS or state is State.HALF_OPEN or head[at.QUIET] != word:
            self._consider(outcome, slow, now)

    def note_failure(
        self,
        error: BaseException,
        now: int,
        *,
        failed: BaseException | None = None,
        message: str = "",
        source: str = "",
    ) -> None:
        """Record the last failure, and the Retry-After that it asks for. Runs the exception's code, so under no lock.

        Args:
            error: The exception that the call raised.
            now: Time of the failure.
            failed: The exception that made it a failure: a cause, or a member of a group.
            message: Message in place of the exception's.
            source: Words before the message.
        """
        circuit = self.circuit
        kind, status, text = describe(failed or error)
        text = message or text
        circuit.record.note_failure(now, kind, status, f"{source}: {text}".removesuffix(": ") if source else text)
        if asked := of_error(error):
            until = now + nanoseconds(min(asked, circuit.machine.config.timeout_max))
            circuit.head[at.RETRY_AT] = max(circuit.head[at.RETRY_AT], until)

    def lacks_permit(self, counters: Counters, error: BaseException) -> bool:
        """Return True if a probe ended because a call inside it, in another thread or process, had no permit.

        The round then has one permit more, since the call could never get one where there are too few; but only a few
        times, since each round needs a verdict.
        """
        if not counters.permitted:
            return False
        name = self.circuit.name
        rejections = (each for each in history(error) if isinstance(each, CircuitOpenError) and each.name == name)
        # Not a rejection that the caller of the probe had before, and is handling.
        late = any(each.refused_at >= counters.started > 0 for each in rejections)
        return late and self.circuit.machine.add_permit(counters.word)

    def missed(self, error: Exception) -> bool:
        """Return True if a fallback applies: this breaker rejected the call, or its rules call the error a failure."""
        failed = self.classifier.error(error, slow=False) is Outcome.FAILURE
        return failed or any(map(self._rejected, leaves(error)))

    def _admits(self, counters: Counters, now: int, *, prober: bool = False) -> bool | None:
        """Return True if a call may run, and note it in its counters; None if the lock for a permit is taken.

        `prober` is True for a health check.
        """
        circuit = self.circuit
        head = circuit.head
        word = head[at.WORD]
        events = list[Event]()
        admitted: bool | None
        counters.word = -1
        try:
            if state_of(word) in ADMITTING and head[at.QUIET] != word != circuit.record.evaluated:
                circuit.record.evaluated = word
                circuit.evaluate(now)  # there may be calls of a dead worker that are not evaluated yet
                word = head[at.WORD]
            admitted = state_of(word) in ADMITTING
            if admitted:
                circuit.refresh()
                counters.admit(word, now)
            elif state_of(word) is State.HALF_OPEN and inside(circuit.record.identity, generation_of(word)):
                circuit.refresh()
                counters.admit(word, now, nested=True)
                admitted = True
            elif counters.readable and self._due(word, now, prober=prober):
                # No probe if the lock is busy: its holder may be stopped for good.
                admitted = None
                with suppress(LedgerBusyError):
                    admitted, events = circuit.core.lock.run(
                        lambda: self._admit_locked(counters, now), LOCK_TIMEOUT_SECONDS
                    )
            if events:
                circuit.notify(events)
        except BaseException:  # an interruption, perhaps inside a listener: the call does not take place
            if counters.word != -1:
                counters.abandon()
                head[at.NO_PERMIT] = 0
            counters.word = -1
            circuit.record.free(counters)
            raise
        if counters.permitted:
            counters.scope = ProbeScope(counters, circuit.record.identity, generation_of(counters.word))
        return admitted

    def _admit_locked(self, counters: Counters, now: int) -> tuple[bool, list[Event]]:
        circuit = self.circuit
        circuit.refresh()
        admitted, events = circuit.machine.admit(now)
        if admitted:
            counters.admit(circuit.head[at.WORD], now)
        return admitted, events

    def _due(self, word: int, now: int, *, prober: bool) -> bool:
        """Return True if a circuit that rejects calls may have to admit this one."""
        self.circuit.check_times(now)
        head, state = self.circuit.head, state_of(word)
        until = head[at.UNTIL]
        if head[at.NO_PERMIT] == word and now < head[at.NO_PERMIT_UNTIL]:
            return False  # another call has just found none
        if now < head[at.PROBER_UNTIL] and not prober and not head[at.EXTRA_PERMITS]:
            return False  # health checks are the probes
        # An OPEN without an end was left by a process that was killed during a change of state.
        return state is State.HALF_OPEN or (until <= now and (until > 0 or state is State.OPEN))

    def _reject(self, counters: Counters, state: State, now: int) -> NoReturn:
        circuit = self.circuit
        counters.count(at.REJECTED)
        circuit.record.free(counters)
        left = circuit.deadlines.wait(circuit.head, now, free=False)
        wait = None if left is None else left / 1e9
        if circuit.listeners:
            announce(circuit.listeners, [Rejected(circuit.name, state, wait)])
        error = CircuitOpenError(circuit.name, wait)
        if state is State.HALF_OPEN:
            error.refused_at = now
        raise error

    def _rejected(self, error: BaseException) -> bool:
        """Return True if the error is only the rejection of a call within this one."""
        return all(isinstance(each, _REJECTIONS) and each.name == self.circuit.name for each in leaves(error))

    def _count(self, counters: Counters, outcome: Outcome, slow: bool, late: bool, now: int) -> None:
        """Count an outcome, and that the call has ended. Raises ValueError for a number that exceeds its cell."""
        if late:
            counters.count(at.LATE)  # the stay that admitted the call is over: no vote
        elif outcome is Outcome.NEUTRAL:
            counters.count(at.NEUTRAL)
        else:
            counters.record(now, outcome, slow)
        if counters.probe and not late:
            self._vote(counters, outcome, slow, now - counters.started)
        counters.cells[at.STARTED] = 0

    def _consider(self, outcome: Outcome, slow: bool, now: int) -> None:
        """Change the state if an outcome that has been counted demands it."""
        if outcome is Outcome.NEUTRAL:
            return
        circuit = self.circuit
        circuit.core.check(circuit.record, now)  # the evaluation reads the cells of other processes
        if circuit.machine.record_outcome(outcome, slow, now):
            circuit.evaluate(now)

    def _vote(self, counters: Counters, outcome: Outcome, slow: bool, elapsed: int) -> None:
        """Count the end of a probe in its round."""
        if counters.nested:
            return
        if outcome is Outcome.NEUTRAL:
            counters.end_probe(at.ROUND_RETURNED)
            return
        circuit = self.circuit
        too_slow = slow and circuit.machine.config.slow_call_rate_threshold is not None
        good = outcome is Outcome.SUCCESS and not too_slow and elapsed < circuit.permit_timeout
        if outcome is Outcome.SUCCESS and not good:
            circuit.record.note_failure(
                counters.started + elapsed, SLOW_PROBE, message=f"a probe took {elapsed / 1e9:.1f} s"
            )
        counters.end_probe(at.ROUND_SUCCESSES if good else at.ROUND_FAILURES)

    def _probe_ended(self, counters: Counters) -> None:
        counters.word = -1  # the next call needs a permit of its own
        leave(counters)
        head = self.circuit.head
        head[at.NO_PERMIT] = 0
        if head[at.FLEET_CONTROLLED]:
            self.circuit.record.notify_agent()
