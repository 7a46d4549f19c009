"""The long way of a call: an admission that must ask, and an outcome that may change the state."""

from contextlib import suppress
from typing import NoReturn

from .background.fork import FORK_MARK, detect_fork
from .background.watchdog import WATCHDOG
from .config import BreakerConfig, nanoseconds
from .control import BreakerControl
from .errors import BulkheadFullError, CircuitOpenError, LedgerBusyError
from .events import Event, LateResult, Rejected
from .ledger import layout as at
from .ledger.core import CHECK_INTERVAL_NS, LOCK_TIMEOUT_SECONDS
from .ledger.counters import DETACHED, Counters
from .ledger.layout import generation_of, state_of
from .ledger.probe_scope import Scope, inside, leave
from .ledger.semaphore import Semaphore
from .state.deferred import PROMPT
from .state.outcome import Classifier, history, leaves
from .state.retry_after import of_error
from .states import ADMITTING, Outcome, State

_REFUSALS = (CircuitOpenError, BulkheadFullError)


class Passage(BreakerControl):
    """What `CircuitBreaker` falls back on when a call is not quick, not good, or not known to be welcome."""

    _classifier: Classifier
    _idle: list[Counters]
    _marked = 0  # when it last said that it counts calls

    def _apply(self, config: BreakerConfig) -> None:
        self._slow = nanoseconds(config.slow_call_duration)
        self._permit = nanoseconds(config.permit_timeout)

    def begin(self) -> Counters:
        """Admit what is not a call. Whoever takes the tally must `finish` it. Raises CircuitOpenError.

        It may end anywhere, so that calls which follow are not inside of it, as they are in a block or a function.
        """
        if not FORK_MARK[0]:
            detect_fork()
        tally = self._take()
        if tally.word == self._head[at.WORD]:
            tally.cells[at.STARTED] = tally.started = self._clock()
            return tally
        return self._admit(tally)

    def finish(self, tally: Counters, error: BaseException | None) -> None:
        """Count how it ended."""
        if error is None:
            self._settle(tally, Outcome.SUCCESS, self._clock())
        else:
            self._fail(tally, error)

    def abandon(self, tally: Counters) -> None:
        """End it as neither a success nor a failure."""
        self._settle(tally, Outcome.NEUTRAL, self._clock())

    def pause(self, tally: Counters, *, answered: bool = True) -> None:
        """Note that it waits for its caller, not for the dependency: the time is no part of its duration.

        `resume` it before it is finished.
        """
        tally.pause(self._clock(), answered=answered)

    def resume(self, tally: Counters) -> None:
        """Note that it waits for the dependency again."""
        tally.resume(self._clock())

    def _take(self) -> Counters:
        try:
            return self._idle.pop()
        except IndexError:
            return self._grow()

    def answer(self, tally: Counters, result: object) -> None:
        """Count what it returned."""
        self._succeed(tally, result, self._clock())

    def withdraw(self, tally: Counters, *, full: bool) -> None:
        """Undo an admission: nothing was called, and there is no outcome. `full` counts it as refused by a bulkhead."""
        if tally.word == DETACHED:
            return
        if full:
            tally.count(at.FULL)
        if tally.permitted:
            tally.end_probe(at.ROUND_RETURNED)
        tally.cells[at.STARTED] = 0
        if tally.probe:
            self._probe_ended(tally)
        self._row.free(tally)

    def slots(self, limit: int) -> Semaphore:
        """Return what its bulkheads share out, with the limit noted for all to see."""
        self._head[at.BULKHEAD_LIMIT] = limit
        return self._row.semaphore

    def _grow(self) -> Counters:
        detect_fork()
        WATCHDOG.start()
        self._tell_degraded()
        return self._row.grow(self._clock())

    def _admit(self, tally: Counters) -> Counters:
        """Let a call into a state that its tally does not know. Return its tally then. Raises CircuitOpenError."""
        now = self._clock()
        detect_fork()
        self._core.check(self._row, now)
        while tally.word == DETACHED:  # its cells have just gone, with a fork or with the ledger
            tally = self._take()
        if not self._admits(tally, now):
            self._reject(tally, state_of(self._head[at.WORD]), now)
        return tally

    def _admits(self, tally: Counters, now: int, *, prober: bool = False) -> bool:
        """Return whether a call may run; its tally then says so. `prober`: it is a health check."""
        head = self._head
        word = head[at.WORD]
        known, events = tally.word == word, list[Event]()
        tally.word = -1
        try:
            if state_of(word) in ADMITTING and head[at.QUIET] != word and not known:
                self._evaluate(now)  # there may be calls of a dead worker that nobody has looked at
                word = head[at.WORD]
            admitted = state_of(word) in ADMITTING
            if admitted:
                self._refresh()
                tally.admit(word, now)
            elif state_of(word) is State.HALF_OPEN and inside(self._row.identity, generation_of(word)):
                self._refresh()
                tally.admit(word, now, nested=True)
                admitted = True
            elif tally.readable and self._due(word, now, prober=prober):
                # A lock that cannot be had means no probe: whoever holds it may be stopped for good.
                with suppress(LedgerBusyError):
                    admitted, events = self._core.lock.run(lambda: self._admit_locked(tally, now), LOCK_TIMEOUT_SECONDS)
            self._tell(events)
        except BaseException:  # an interruption, perhaps inside a listener: the call does not take place
            if tally.word != -1:
                tally.abandon()
                head[at.NO_PERMIT] = 0
            tally.word = -1
            self._row.free(tally)
            raise
        if tally.permitted:
            tally.scope = Scope(tally, self._row.identity, generation_of(tally.word))
        return admitted

    def _admit_locked(self, tally: Counters, now: int) -> tuple[bool, list[Event]]:
        self._refresh()
        admitted, events = self._circuit.admit(now)
        if admitted:
            tally.admit(self._head[at.WORD], now)
        return admitted, events

    def _due(self, word: int, now: int, *, prober: bool) -> bool:
        """Return whether a circuit that refuses calls may have to change its mind."""
        self._check_times(now)
        head, state, until = self._head, state_of(word), self._head[at.UNTIL]
        if head[at.NO_PERMIT] == word and now < head[at.NO_PERMIT_UNTIL]:
            return False  # somebody has just asked
        if now < head[at.PROBER_UNTIL] and not prober and not head[at.EXTRA_PERMITS]:
            return False  # health checks find out, at no customer's cost
        # An OPEN without an end is one whose successor was killed in the middle of a change.
        return state is State.HALF_OPEN or (until <= now and (until > 0 or state is State.OPEN))

    def _reject(self, tally: Counters, state: State, now: int) -> NoReturn:
        tally.count(at.REJECTED)
        self._row.free(tally)
        left = self._deadlines.wait(self._head, now, free=False)
        wait = None if left is None else left / 1e9
        if self.listeners:
            self._tell([Rejected(self.name, state, wait)])
        error = CircuitOpenError(self.name, wait)
        if state is State.HALF_OPEN:
            error.refused_at = now
        raise error

    def _succeed(self, tally: Counters, result: object, now: int) -> None:
        outcome = Outcome.SUCCESS
        try:
            if type(result) in PROMPT and not self._classifier.failed_result:
                pass  # as almost always
            elif self._classifier.result(result) is Outcome.FAILURE:
                outcome = Outcome.FAILURE
                self._row.note_failure(now, "result")
        except BaseException:
            self._settle(tally, Outcome.NEUTRAL, now)
            raise
        self._settle(tally, outcome, now)

    def _fail(self, tally: Counters, error: BaseException) -> None:
        now, outcome = self._clock(), Outcome.NEUTRAL
        try:
            if self._lacks_permit(tally, error):
                return
            if not self._refused(error):
                outcome = self._classifier.error(error, now - tally.started >= self._slow, self._refused)
                if outcome is Outcome.FAILURE:
                    self._note_failure(error, now)
            elif tally.permitted:
                outcome = Outcome.FAILURE
                self._row.note_failure(now, type(error).__name__)
        finally:
            self._settle(tally, outcome, now)

    def _note_failure(self, error: BaseException, now: int) -> None:
        self._row.note_failure(now, type(error).__name__)
        if asked := of_error(error):
            until = now + nanoseconds(min(asked, self._circuit.config.timeout_max))
            self._head[at.RETRY_AT] = max(self._head[at.RETRY_AT], until)

    def _refused(self, error: BaseException) -> bool:
        """Return whether a call within this one was refused, and nothing else went wrong."""
        return all(isinstance(each, _REFUSALS) and each.name == self.name for each in leaves(error))

    def _lacks_permit(self, tally: Counters, error: BaseException) -> bool:
        """Return whether a probe has ended because a call within it, in another thread or process, had no permit.

        Then the round has one more, or the call would never have one where there are too few; but not without end, or
        no round would have a verdict.
        """
        if not tally.permitted:
            return False
        refused = (each for each in history(error) if isinstance(each, CircuitOpenError) and each.name == self.name)
        # Not one that the caller of the probe has had before, and is handling.
        return any(each.refused_at >= tally.started > 0 for each in refused) and self._circuit.widen(tally.word)

    def _missed(self, error: Exception) -> bool:
        """Return whether there is no answer: this breaker refused the call, or calls the exception a failure."""
        failed = self._classifier.error(error, slow=False) is Outcome.FAILURE
        return failed or any(map(self._refused, leaves(error)))

    def _settle(self, tally: Counters, outcome: Outcome, now: int) -> None:
        """Count an outcome, free its tally, and see whether the state must change."""
        if not FORK_MARK[0]:
            detect_fork()
        if not 0 <= now - self._marked < CHECK_INTERVAL_NS:
            self._marked = now
            self._core.heartbeat(now)
        head, word = self._head, tally.word
        if word == DETACHED:
            return
        state, slow, late = state_of(word), now - tally.started >= self._slow, False
        turned = now >= tally.slice_end
        if head[at.WORD] != word:
            tally.slice_end = 0  # new thresholds may have moved the window
            late = generation_of(head[at.WORD]) != generation_of(word)
        if state is State.DISABLED and not late:
            outcome = Outcome.NEUTRAL
        try:
            self._count(tally, outcome, slow, late, now)
        except ValueError:  # a number leaves its cell
            self._core.check(self._row, now, valid=False)
            return
        if state is State.HALF_OPEN:
            self._probe_ended(tally)
        self._row.free(tally)
        if turned:
            WATCHDOG.start()  # once in a slice of the window: nothing else would, where all calls are quick
        if late:
            self._tell([LateResult(self.name, outcome)])
        elif slow or outcome is not Outcome.SUCCESS or state is State.HALF_OPEN or head[at.QUIET] != word:
            self._consider(outcome, slow, now)

    def _count(self, tally: Counters, outcome: Outcome, slow: bool, late: bool, now: int) -> None:
        """Count an outcome, and that the call has ended. Raises ValueError for a number that leaves its cell."""
        if late:
            tally.count(at.LATE)  # the stay that admitted it is over: no vote
        elif outcome is Outcome.NEUTRAL:
            tally.count(at.NEUTRAL)
        else:
            tally.record(now, outcome, slow)
        if tally.probe and not late:
            self._vote(tally, outcome, slow, now - tally.started)
        tally.cells[at.STARTED] = 0

    def _consider(self, outcome: Outcome, slow: bool, now: int) -> None:
        """Change the state if an outcome that has been counted demands it."""
        if outcome is Outcome.NEUTRAL:
            return
        self._core.check(self._row, now)  # more will be looked at than this call
        if self._circuit.record_outcome(outcome, slow, now):
            self._evaluate(now)

    def _vote(self, tally: Counters, outcome: Outcome, slow: bool, elapsed: int) -> None:
        """Count the end of a probe in its round."""
        if tally.nested:
            return
        if outcome is Outcome.NEUTRAL:
            tally.end_probe(at.ROUND_RETURNED)
            return
        too_slow = slow and self._circuit.config.slow_call_rate_threshold is not None
        good = outcome is Outcome.SUCCESS and not too_slow and elapsed < self._permit
        tally.end_probe(at.ROUND_SUCCESSES if good else at.ROUND_FAILURES)

    def _probe_ended(self, tally: Counters) -> None:
        tally.word = -1  # the next call must ask for a permit of its own
        leave(tally)
        self._head[at.NO_PERMIT] = 0
        if self._head[at.FLEET_CONTROLLED]:
            self._row.notify_agent()
