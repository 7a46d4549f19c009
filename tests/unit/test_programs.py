"""Two programs with different code in one ledger: both say so, in the log and in `Ledger.programs`."""

import logging
from pathlib import Path

import pytest

from cb import BreakerConfig, CircuitBreaker, Ledger
from cb.ledger.project import ledger_name
from cb.testing import FakeClock
from tests.support import ROOT

SHOP, BANK = "shop-3f2a9c1b", "bank-00c0ffee"
SHARED = "shared by programs with different code"


class Program:
    """A breaker of a program, on a ledger object of its own as in a process of its own."""

    def __init__(self, path: Path, name: str, clock: FakeClock, timeout: float = 30) -> None:
        self.ledger = Ledger.in_file(path)
        self.ledger.core.shards.program = name
        self.breaker = CircuitBreaker("vendor", BreakerConfig(timeout=timeout), ledger=self.ledger, clock=clock)
        self._clock = clock

    def call(self) -> "Program":
        self.breaker.call(int)
        return self

    def tick(self) -> None:
        self._clock.advance(1)
        self.breaker.control.evaluate()


@pytest.fixture
def path(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Path:
    caplog.set_level(logging.INFO)
    return tmp_path / "shared.ledger"


def lines(caplog: pytest.LogCaptureFixture, text: str = SHARED) -> list[str]:
    found = [each.getMessage() for each in caplog.records if text in each.getMessage()]
    caplog.clear()
    return found


def test_both_programs_of_a_ledger_say_once_that_they_share_it(
    path: Path, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    resident = Program(path, SHOP, clock).call()
    resident.tick()
    assert not lines(caplog)
    newcomer = Program(path, BANK, clock).call()
    [said] = lines(caplog)
    assert f"{path} is {SHARED}: {BANK}, which is this one, and {SHOP} (worker " in said
    resident.call()
    assert not lines(caplog)  # no call logs it
    resident.tick()
    [said] = lines(caplog)
    assert f"{SHOP}, which is this one, and {BANK} (worker " in said
    for _ in range(3):
        resident.tick()
        newcomer.tick()
    assert not lines(caplog)
    assert resident.ledger.programs == newcomer.ledger.programs == Ledger.view(path).programs == [BANK, SHOP]


def test_processes_of_a_program_share_a_ledger_without_a_word(
    path: Path, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    both = [Program(path, SHOP, clock).call() for _ in range(2)]
    for each in both:
        each.tick()
    assert not lines(caplog)
    assert Ledger.view(path).programs == [SHOP]


def test_program_that_has_ended_is_no_longer_listed(
    path: Path, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    ended = Program(path, BANK, clock).call()
    ended.ledger.close()
    stays = Program(path, SHOP, clock).call()
    stays.tick()
    assert not lines(caplog)
    assert stays.ledger.programs == [SHOP]


def test_process_that_joins_before_its_first_call_says_it(
    path: Path, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    resident = Program(path, SHOP, clock).call()
    newcomer = Program(path, BANK, clock)
    newcomer.ledger.join()
    assert len(lines(caplog)) == 1
    newcomer.ledger.join()
    assert not lines(caplog)
    assert resident.ledger.programs == [BANK, SHOP]


def test_program_is_the_project_that_opens_the_ledger(path: Path, clock: FakeClock) -> None:
    ledger = Ledger.open(f"file://{path}")
    ledger.join()
    assert ledger.programs == [ledger_name(str(ROOT))]
    assert Ledger.in_memory().programs == []


@pytest.mark.parametrize(("other", "level"), [(SHOP, "INFO"), (BANK, "WARNING")])
def test_thresholds_that_replace_others_are_logged_by_those_who_gave_either(
    path: Path, clock: FakeClock, caplog: pytest.LogCaptureFixture, other: str, level: str
) -> None:
    resident = Program(path, SHOP, clock).call()
    Program(path, SHOP, clock).call()
    newcomer = Program(path, other, clock, timeout=60).call()
    resident.tick()
    resident.tick()
    newcomer.tick()
    found = [(each.levelname, each.getMessage()) for each in caplog.records if "hold now" in each.getMessage()]
    change = "timeout = 60.0 (was 30.0)"
    assert found == [
        (level, f"circuit vendor: thresholds given here hold now: {change}"),
        (level, f"circuit vendor: thresholds given elsewhere hold now, in place of those here: {change}"),
    ]


def test_thresholds_of_an_operator_are_not_taken_for_those_of_another_program(
    path: Path, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    resident, other = Program(path, SHOP, clock).call(), Program(path, SHOP, clock).call()
    other.breaker.control.configure(timeout=5, author="ann")
    resident.tick()
    assert not lines(caplog, "hold now")


def test_warning_follows_once_the_thresholds_turn_out_to_be_of_another_program(
    path: Path, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    resident = Program(path, SHOP, clock).call()
    newcomer = Program(path, BANK, clock, timeout=60)  # which has made no call yet
    resident.tick()
    newcomer.call()
    caplog.clear()
    resident.tick()
    assert [each.levelname for each in caplog.records if "given elsewhere" in each.getMessage()] == ["WARNING"]
