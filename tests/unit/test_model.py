"""The breaker against a model of it: thousands of random histories, as two workers of one ledger live through them.

The model implements docs/rules.md, rules 1 to 8, and uses nothing of the implementation.
"""

import sys
import tempfile
from contextvars import Context
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from cb import BreakerConfig, CircuitBreaker, CircuitOpenError, Ledger, State
from cb.control import ACTIONS
from tests.unit.conftest import SECOND, FakeClock
from tests.unit.model import Call, Model

CHECK_INTERVAL_NS = SECOND // 10


def _config(permits: int, needed: int, **settings: Any) -> BreakerConfig:
    return BreakerConfig(max_requests=permits, success_threshold=min(needed, permits), **settings)


CONFIGS = st.builds(
    _config,
    permits=st.integers(1, 4),
    needed=st.integers(1, 2),
    interval=st.sampled_from([1.0, 5.0]),
    timeout=st.sampled_from([0.5, 2.0]),
    failure_threshold=st.sampled_from([None, 2, 4]),
    failure_rate_threshold=st.sampled_from([0.5, 1.0]),
    minimum_requests=st.integers(1, 5),
    slow_call_duration=st.sampled_from([0.3, 1.0]),
    slow_call_rate_threshold=st.sampled_from([None, 0.5]),
    timeout_multiplier=st.sampled_from([1.0, 2.0]),
    timeout_max=st.just(3.0),
    timeout_jitter=st.just(0.0),
    half_open_max_duration=st.sampled_from([1.0, 3.0]),
    call_timeout=st.sampled_from([None, 0.5]),
)


STEPS: list[int] = []


class TwoWorkers(RuleBasedStateMachine):
    """Two breakers of one ledger, and the model of the one breaker that they are."""

    @initialize(config=CONFIGS, shared=st.booleans())
    def start(self, config: BreakerConfig, shared: bool) -> None:
        self.directory = tempfile.TemporaryDirectory()
        self.clock = FakeClock()
        self.model = Model(config, self.clock.now)
        path = Path(self.directory.name) / "l"
        memory = Ledger.in_memory()
        ledgers = [Ledger.in_file(path), Ledger.in_file(path)] if shared else [memory, memory]
        self.workers = [CircuitBreaker("d", config, ledger=ledger, clock=self.clock) for ledger in ledgers]
        self.stacks: list[list[Call]] = [[], []]

    def teardown(self) -> None:
        if hasattr(self, "directory"):
            self.directory.cleanup()

    @rule(worker=st.integers(0, 1), times=st.integers(1, 3), outcome=st.sampled_from(["success", "failure", "neutral"]))
    def quick_calls(self, worker: int, times: int, outcome: str) -> None:
        errors = {"success": None, "failure": OSError(), "neutral": KeyboardInterrupt()}
        for _ in range(times):
            admitted = self.model.begin()
            try:
                self.workers[worker].call(_do, errors[outcome])
            except CircuitOpenError:
                assert not admitted
            except (OSError, KeyboardInterrupt):
                assert admitted and outcome != "success"
            else:
                assert admitted and outcome == "success"
            if admitted:
                self.model.end(self.model.running[-1], outcome)

    @rule(worker=st.integers(0, 1))
    def begin(self, worker: int) -> None:
        admitted = self.model.begin()
        try:
            self.workers[worker].__enter__()
        except CircuitOpenError:
            assert not admitted
        else:
            assert admitted
            self.stacks[worker].append(self.model.running[-1])

    @precondition(lambda self: self.model.state in (State.OPEN, State.HALF_OPEN))
    @rule(worker=st.integers(0, 1), calls=st.integers(1, 5), fails=st.booleans())
    def wait_for_calls_of_a_thread(self, worker: int, calls: int, fails: bool) -> None:
        """Begin a call, have others run in another context, and end it with the refusal of one, if there is one."""
        breaker, model = self.workers[worker], self.model
        if not model.begin(elsewhere=True):
            with pytest.raises(CircuitOpenError):
                Context().run(breaker.begin)
            return
        call, waiting, refused = Context().run(breaker.begin), model.running[-1], None
        for _ in range(calls):
            admitted = model.begin(elsewhere=True)
            try:
                Context().run(breaker.call, _do, OSError() if fails else None)
            except CircuitOpenError as error:
                assert not admitted
                if model.state is State.HALF_OPEN:
                    refused, model.refused_at = error, self.clock.now
            except OSError:
                assert admitted and fails
            else:
                assert admitted and not fails
            if admitted:
                model.end(model.running[-1], "failure" if fails else "success")
        if refused:
            call.fail(refused)
        else:
            call.succeed()
        model.end(waiting, "refused" if refused else "success")

    @precondition(lambda self: any(self.stacks))
    @rule(worker=st.integers(0, 1), outcome=st.sampled_from(["success", "failure", "interrupted"]), asks=st.booleans())
    def end(self, worker: int, outcome: str, asks: bool) -> None:
        if not self.stacks[worker]:
            worker = 1 - worker
        errors = {"success": None, "failure": OSError(), "interrupted": SystemExit()}
        error, call = errors[outcome], self.stacks[worker].pop()
        if asks and outcome == "failure":
            error.retry_after = 2.5  # type: ignore[union-attr]  # what cb.http sets from the Retry-After header
            self.model.asked = max(self.model.asked, self.clock.now + int(2.5 * SECOND))
        self.workers[worker].__exit__(type(error) if error else None, error, None)
        self.model.end(call, outcome)

    @rule(tenths=st.integers(1, 30))
    def time_passes(self, tenths: int) -> None:
        self.clock.now += tenths * CHECK_INTERVAL_NS
        self.model.now = self.clock.now
        self.workers[0].control.evaluate()
        self.model.evaluate()

    @rule(
        worker=st.integers(0, 1),
        state=st.sampled_from([State.FORCED_OPEN, State.DISABLED, State.METRICS_ONLY, State.CLOSED]),
        seconds=st.sampled_from([None, 0.5, 2.0]),
        really=st.integers(0, 4),
    )
    def operator(self, worker: int, state: State, seconds: float | None, really: int) -> None:
        if really:  # operators are rare
            return
        if state is State.CLOSED:
            self.workers[worker].control.reset(reason="test")
        else:
            ACTIONS[state](self.workers[worker].control, reason="test", duration=seconds)
        self.model.enter(state)
        self.model.until = self.clock.now + int(seconds * SECOND) if seconds and state is not State.CLOSED else None

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "model"):
            return
        STEPS.append(1)
        model = self.model
        for breaker in self.workers:
            seen = breaker.snapshot()
            assert (seen.state, seen.generation) == (model.state, model.generation)
            assert (seen.window.requests, seen.window.failures, seen.window.slow) == model.window()
            assert seen.consecutive_failures == model.consecutive()
            assert seen.in_flight == len(model.running)
            assert {name: getattr(seen.totals, name) for name in model.totals} == model.totals
            assert seen.retry_after == model.wait()


def _do(error: BaseException | None) -> None:
    if error:
        raise error


def test_two_workers_do_what_the_model_does() -> None:
    """Counts its steps too: `make prove` claims 200,000."""
    run_state_machine_as_test(TwoWorkers)
    sys.stdout.write(f"{len(STEPS):,} steps\n")
    assert len(STEPS) >= (200_000 if settings().max_examples >= 2500 else 500)
