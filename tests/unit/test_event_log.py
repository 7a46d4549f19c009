"""The log lines of the core: changes of state, one line each, with all that an operator asks for."""

import logging
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cb import BreakerConfig, CircuitBreaker, CircuitOpenError, Ledger, Registry, State
from cb.health_probes import HealthProbes
from tests.unit.conftest import Dependency

Make = Callable[..., Dependency]


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[], list[tuple[str, str]]]:
    """Return a function that returns level and message of the lines so far, and forgets them."""
    caplog.set_level(logging.DEBUG, "cb")

    def taken() -> list[tuple[str, str]]:
        found = [(each.levelname, each.getMessage()) for each in caplog.records if each.name == "cb.circuits"]
        caplog.clear()
        return found

    return taken


def facts(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [record.__dict__["facts"] for record in caplog.records if record.name == "cb.circuits"]


def test_outage_is_a_warning_and_its_end_an_info_that_tells_how_long_calls_were_rejected(
    make: Make, lines: Callable[[], list[tuple[str, str]]]
) -> None:
    dependency = make(failure_threshold=3, timeout="10s", max_requests=2, success_threshold=2)
    dependency.answer()
    for _ in range(3):
        dependency.fail()
    line = "circuit dependency: CLOSED -> OPEN: 3 consecutive failures; 4 calls in 60 s, 3 failed (75%)"
    failure = f"last failure: ConnectionError: refused (worker {os.getpid()})"
    assert lines() == [("WARNING", f"{line}; {failure}")]
    dependency.clock.advance(10)
    dependency.fail()
    dependency.clock.advance(190)
    dependency.answer()
    dependency.answer()
    found = lines()
    assert [level for level, _ in found] == ["INFO", "WARNING", "INFO", "INFO"]
    assert found[0][1] == "circuit dependency: OPEN -> HALF_OPEN: time to try again"
    assert found[1][1].startswith("circuit dependency: HALF_OPEN -> OPEN: 1 of 2 probes failed")
    assert found[3][1] == (
        "circuit dependency: HALF_OPEN -> CLOSED: 2 probes succeeded; 2 calls in 60 s, 0 failed (0%); "
        "calls were rejected for 3 min"
    )


def test_rejected_and_late_calls_are_not_logged(make: Make, lines: Callable[[], list[tuple[str, str]]]) -> None:
    dependency = make(failure_threshold=1)
    call = dependency.breaker.begin()
    dependency.fail()
    lines()
    call.succeed()
    for _ in range(100):
        with pytest.raises(CircuitOpenError):
            dependency.answer()
    dependency.breaker.listeners.append(lambda _: None)
    with pytest.raises(CircuitOpenError):
        dependency.answer()
    assert lines() == []


def test_actions_of_operators_have_their_author(
    make: Make, lines: Callable[[], list[tuple[str, str]]], caplog: pytest.LogCaptureFixture
) -> None:
    control = make().breaker.control
    control.force_open(reason="it migrates", author="alice")
    control.disable(reason="wrong breaker", author="bob")
    control.metrics_only(reason="trial", author="alice")
    control.configure(timeout=3, reason="slow vendor", author="bob")
    control.reset(reason="done", author="alice")
    assert [each["author"] for each in facts(caplog)] == ["alice", "bob", "alice", "bob", "alice"]
    assert lines() == [
        ("WARNING", "circuit dependency: CLOSED -> FORCED_OPEN: it migrates (by alice)"),
        (
            "WARNING",
            "circuit dependency: FORCED_OPEN -> DISABLED: wrong breaker (by bob); calls were rejected for 0.0 s",
        ),
        ("INFO", "circuit dependency: DISABLED -> METRICS_ONLY: trial (by alice)"),
        ("INFO", "circuit dependency: new thresholds: timeout = 3: slow vendor (by bob)"),
        ("INFO", "circuit dependency: METRICS_ONLY -> CLOSED: done (by alice)"),
    ]


def test_extra_has_the_facts_of_a_change(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "cb")
    dependency = make(failure_threshold=2, timeout="5s", success_threshold=1)
    dependency.fail()
    dependency.fail()
    dependency.clock.advance(5)
    dependency.answer()
    opened, _, closed = facts(caplog)
    assert opened == {
        "breaker": "dependency",
        "from": "CLOSED",
        "to": "OPEN",
        "generation": 2,
        "reason": "2 consecutive failures",
        "window": {"seconds": 60, "requests": 2, "failures": 2, "slow": 0, "failure_rate": 1.0},
        "last_failure": {"type": "ConnectionError", "status": None, "message": "refused", "worker": str(os.getpid())},
    }
    assert closed["open_seconds"] == 5


def test_metrics_only_circuit_is_logged_when_it_would_open(
    make: Make, lines: Callable[[], list[tuple[str, str]]]
) -> None:
    dependency = make(failure_threshold=2)
    dependency.breaker.control.metrics_only(reason="trial", author="alice")
    lines()
    for _ in range(3):
        dependency.fail()
    dependency.answer()
    assert lines() == [
        ("WARNING", "circuit dependency: METRICS_ONLY, would open: 2 consecutive failures"),
        ("INFO", "circuit dependency: METRICS_ONLY, would close again"),
    ]


def test_health_is_logged_when_it_changes(make: Make, lines: Callable[[], list[tuple[str, str]]]) -> None:
    probes = HealthProbes(make().breaker)
    for error in (OSError("no\nroute"), OSError("no route"), None, None):
        probes.note(error, took=0.1, valid=15)
    assert lines() == [
        ("WARNING", "health of dependency: DOWN: OSError: no\\nroute"),
        ("INFO", "health of dependency: UP"),
    ]


def test_reason_with_control_characters_is_one_printable_line(
    make: Make, lines: Callable[[], list[tuple[str, str]]]
) -> None:
    make().breaker.control.reset(reason="a\nWARNING forged \x1b[2J\u2028%s", author="al\x9bice")
    ((_, message),) = lines()
    assert message.isprintable()
    assert "a\\nWARNING forged \\x1b[2J\\u2028%s (by al\\x9bice)" in message


def test_initial_state_is_logged_at_the_first_call(lines: Callable[[], list[tuple[str, str]]]) -> None:
    breaker = CircuitBreaker("vendor", BreakerConfig(initial_state=State.METRICS_ONLY))
    assert lines() == []
    breaker.call(int)
    assert lines() == [("INFO", "circuit vendor: CLOSED -> METRICS_ONLY: initial state")]


@pytest.fixture
def handler() -> Iterator[Callable[[logging.Handler], None]]:
    """Return a function that adds a handler to the logger `cb`, removed at the end."""
    added: list[logging.Handler] = []
    logger = logging.getLogger("cb")

    def add(handler: logging.Handler) -> None:
        added.append(handler)
        logger.addHandler(handler)

    yield add
    for each in added:
        logger.removeHandler(each)


def test_handler_that_raises_changes_no_call(
    handler: Callable[[logging.Handler], None], capsys: pytest.CaptureFixture[str]
) -> None:
    class Broken(logging.Handler):
        def emit(self, _: logging.LogRecord) -> None:
            raise RuntimeError("disk full")

    handler(Broken())
    breaker = CircuitBreaker("vendor", BreakerConfig(failure_threshold=1))
    with pytest.raises(ZeroDivisionError):
        breaker.call(lambda: 1 / 0)
    assert breaker.state is State.OPEN
    assert "disk full" in capsys.readouterr().err


@pytest.mark.parametrize("ledger", ["memory", "file"])
def test_line_is_written_while_no_lock_is_held(
    handler: Callable[[logging.Handler], None], tmp_path: Path, ledger: str
) -> None:
    registry = Registry(
        ledger=Ledger.in_file(tmp_path / "l.ledger") if ledger == "file" else None,
        defaults=BreakerConfig(failure_threshold=1, initial_state=State.METRICS_ONLY),
    )
    ended: list[bool] = []

    class Elsewhere(logging.Handler):
        def createLock(self) -> None:  # noqa: N802 - a name of logging, whose own lock is not the subject here
            self.lock = None

        def emit(self, _: logging.LogRecord) -> None:
            if threading.current_thread() is not threading.main_thread():
                return  # the lines of the threads below

            def use() -> None:
                registry.get(f"new {len(ended)}")
                registry.get("vendor").snapshot()
                registry.get("vendor").control.configure(timeout=9)

            thread = threading.Thread(target=use)
            thread.start()
            thread.join(5)
            ended.append(not thread.is_alive())

    handler(Elsewhere())
    logging.getLogger("cb").setLevel(logging.INFO)
    try:
        vendor = registry.get("vendor")
        vendor.call(int)
        vendor.control.reset(reason="trial over")
        with pytest.raises(ZeroDivisionError):
            vendor.call(lambda: 1 / 0)
        vendor.control.configure(timeout=8)
    finally:
        logging.getLogger("cb").setLevel(logging.NOTSET)
    assert ended == [True] * 4
