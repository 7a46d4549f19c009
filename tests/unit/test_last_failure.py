"""The last failure of a breaker: named rightly for any failure, and by code that cannot fail a call."""

import os
import struct
import threading
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from cb import CircuitBreaker, Event, LastFailure, Ledger, Reclaimed, State, StateChange
from cb.breaker import admission_of
from cb.health_probes import HealthProbes
from cb.ledger import layout as at
from cb.state.failure_text import describe, first_line
from cb.testing import FakeClock
from tests.unit.conftest import Changes, Dependency

Make = Callable[..., Dependency]


def last(breaker: CircuitBreaker) -> LastFailure:
    found = breaker.snapshot().last_failure
    assert found is not None
    return found


class StatusError(Exception):
    """An exception with attributes, as those of HTTP clients."""

    def __init__(self, message: str, **attributes: object) -> None:
        super().__init__(message)
        self.__dict__.update(attributes)


def test_failure_has_class_message_and_worker(make: Make) -> None:
    dependency = make()
    dependency.fail(TimeoutError("GET https://vendor: no response within 5 s\nand a second line"))
    dependency.clock.advance(4)
    assert last(dependency.breaker) == LastFailure(
        4, "TimeoutError", None, "GET https://vendor: no response within 5 s", str(os.getpid())
    )
    assert str(last(dependency.breaker)) == (
        f"TimeoutError: GET https://vendor: no response within 5 s (worker {os.getpid()})"
    )
    document = dependency.breaker.snapshot().as_dict(1_000_004)["last_failure"]
    assert document == {
        "at": "1970-01-12T13:46:40Z",
        "type": "TimeoutError",
        "status": None,
        "message": "GET https://vendor: no response within 5 s",
        "worker": str(os.getpid()),
    }


@pytest.mark.parametrize(
    ("attributes", "status"),
    [
        ({"status": 503}, 503),
        ({"status_code": 502}, 502),
        ({"code": 504}, 504),
        ({"response": SimpleNamespace(status_code=500)}, 500),
        ({"response": {"ResponseMetadata": {"HTTPStatusCode": 429}}}, 429),
        ({"response": None, "status": "503", "code": "e3q8"}, None),
        ({"response": {}, "status": True, "code": 5}, None),
    ],
)
def test_status_is_that_of_the_clients_exceptions(make: Make, attributes: dict[str, object], status: int) -> None:
    dependency = make()
    dependency.fail(StatusError("upstream", **attributes))
    assert last(dependency.breaker).status == status
    shown = f", status {status}" if status else ""
    assert str(last(dependency.breaker)) == f"StatusError: upstream{shown} (worker {os.getpid()})"


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("\n \n  second \n third", "second"),
        ("", ""),
        ("a\x1b[2Jb\x00c", "a?[2Jb?c"),
        ("ü" * 200, "ü" * 88),  # 176 bytes
        ("\ud800 lone", "? lone"),
        ("postgresql://user:pw@db:5432/x is away", "postgresql://***@db:5432/x is away"),
        ("url: /v1/charge?api_key=s3cret&x=1 (Caused by None)", "url: /v1/charge?*** (Caused by None)"),
        ("is it down? yes", "is it down? yes"),
        ("password=hunter2 host=db", "password=*** host=db"),
        ("{'Authorization': 'Bearer abc.def'}", "{'Authorization': ***}"),
        ("sent Bearer abc.def to it", "sent Bearer *** to it"),
        ("KeyError: 'monkey'", "KeyError: 'monkey'"),
    ],
)
def test_message_is_one_printable_line_without_credentials(make: Make, message: str, line: str) -> None:
    dependency = make()
    dependency.fail(OSError(message))
    assert last(dependency.breaker).message == line


def test_first_line_of_megabytes_takes_no_time() -> None:
    assert len(first_line("token=" * 1_000_000)) <= 500
    assert len(first_line("?a@" * 1_000_000)) <= 500
    assert len(first_line("//" * 1_000_000)) <= 500


def test_cause_or_member_that_is_the_failure_is_named(make: Make) -> None:
    dependency = make(rules={"failures": (OSError,)})
    error = ValueError("wrapped")
    error.__cause__ = TimeoutError("no response")
    dependency.fail(error)
    assert str(last(dependency.breaker)).startswith("TimeoutError: no response")
    dependency.fail(ExceptionGroup("two", [ValueError("an answer"), ConnectionError("refused")]))
    assert str(last(dependency.breaker)).startswith("ConnectionError: refused")


def test_failed_result_is_named_without_the_result(make: Make) -> None:
    dependency = make(rules={"failed_result": lambda result: result == "answer"})
    dependency.answer()
    assert (last(dependency.breaker).type, str(last(dependency.breaker))) == (
        "result",
        f"failed_result is true of a str (worker {os.getpid()})",
    )


def test_interruption_is_named_with_its_duration(make: Make) -> None:
    dependency = make(slow_call_duration="2s")
    dependency.fail(SystemExit(1), seconds=30)
    assert str(last(dependency.breaker)) == f"SystemExit: interrupted after 30.0 s (worker {os.getpid()})"


def test_health_check_is_named(make: Make) -> None:
    def ill() -> None:
        raise OSError("no route")

    dependency = make(failure_threshold=1, timeout="1s")
    dependency.fail()
    dependency.clock.advance(1)
    assert HealthProbes(dependency.breaker).run(ill)
    assert last(dependency.breaker).message == "health check: no route"


def test_slow_probe_is_named(make: Make, changes: Changes) -> None:
    dependency = make(
        failure_threshold=1, timeout="1s", max_requests=1, success_threshold=1, slow_call_rate_threshold=0.5
    )
    dependency.fail()
    dependency.clock.advance(1)
    dependency.answer(seconds=3)
    assert dependency.breaker.state is State.OPEN
    assert str(changes[-1].last_failure) == f"a probe took 3.0 s (worker {os.getpid()})"


def test_hanging_call_is_the_reason_and_the_last_failure(make: Make, changes: Changes) -> None:
    dependency = make(failure_threshold=1, call_timeout="5s")
    with dependency.running():
        dependency.clock.advance(6)
        dependency.breaker.control.evaluate()
        assert changes[-1].reason == "1 consecutive failure: a call runs longer than call_timeout, 5 s"
        assert (last(dependency.breaker).type, last(dependency.breaker).ago) == ("call_timeout", 1)
        assert last(dependency.breaker).worker == str(os.getpid())


def test_hanging_probe_is_the_reason(make: Make, changes: Changes, events: list[Event]) -> None:
    dependency = make(failure_threshold=1, timeout="1s", max_requests=1, success_threshold=1, probe_timeout="3s")
    dependency.fail()
    dependency.clock.advance(1)
    with dependency.running():
        dependency.clock.advance(3)
        dependency.breaker.control.evaluate()
        assert changes[-1].reason == "1 of 1 probe failed: no result of a probe after 3 s"
    assert last(dependency.breaker).type == "probe_timeout"
    assert [event.reason for event in events if isinstance(event, Reclaimed)] == ["no result of a probe after 3 s"]


def test_opening_by_slow_calls_has_no_last_failure(make: Make, changes: Changes) -> None:
    dependency = make(minimum_requests=2, slow_call_rate_threshold=1.0, slow_call_duration="1s", interval="10s")
    dependency.fail()
    dependency.clock.advance(100)
    dependency.answer(seconds=2)
    dependency.answer(seconds=2)
    assert (changes[-1].after, changes[-1].last_failure) == (State.OPEN, None)
    assert StateChange(*("d", State.CLOSED, State.OPEN, 2, "x")).last_failure is None


class Hostile(Exception):
    """An exception whose text is code of the user's."""

    def __init__(self, act: Callable[[], str]) -> None:
        super().__init__()
        self.act = act

    def __str__(self) -> str:
        return self.act()


def raising() -> str:
    raise RuntimeError("in __str__")


@pytest.mark.parametrize("act", [raising, lambda: None, lambda: 1 / 0], ids=["raises", "no text", "divides"])
def test_exception_whose_text_cannot_be_had_fails_its_call_as_any_other(make: Make, act: Callable[[], str]) -> None:
    dependency = make()
    dependency.fail(Hostile(act))
    assert last(dependency.breaker) == LastFailure(0, "Hostile", None, "", str(os.getpid()))
    assert dependency.breaker.snapshot().totals.failures == 1


def test_text_may_call_through_the_breaker_and_is_made_under_no_lock(make: Make) -> None:
    dependency = make(failure_threshold=9, minimum_requests=99)

    def again() -> str:
        with pytest.raises(Hostile):
            dependency.breaker.call(lambda: (_ for _ in ()).throw(Hostile(again)).__next__())
        thread = threading.Thread(target=lambda: dependency.breaker.control.reset(reason="not now"))
        thread.start()
        thread.join(5)
        return "locked" if thread.is_alive() else "free"

    dependency.fail(Hostile(again))
    assert last(dependency.breaker).message == "free"


def test_interruption_in_the_text_reaches_the_caller_and_the_call_has_failed(make: Make) -> None:
    def interrupt() -> str:
        raise KeyboardInterrupt

    dependency = make()
    with pytest.raises(KeyboardInterrupt):
        dependency.breaker.call(lambda: (_ for _ in ()).throw(Hostile(interrupt)).__next__())
    assert dependency.breaker.snapshot().totals.failures == 1
    assert dependency.breaker.snapshot().in_flight == 0


def test_description_of_an_exception_whose_attributes_raise() -> None:
    class Odd(Exception):
        @property
        def response(self) -> object:
            raise RuntimeError

    assert describe(Odd("text")) == ("Odd", None, "")


def test_later_failure_is_kept_when_an_earlier_one_is_written_after_it(make: Make) -> None:
    dependency = make()
    record = admission_of(dependency.breaker).circuit.record
    now = dependency.clock()
    record.note_failure(now, "Later")
    record.note_failure(now - 1, "Earlier")
    assert last(dependency.breaker).type == "Later"
    record.note_failure(now + 1, "Next")
    dependency.clock.advance(1)
    assert last(dependency.breaker).type == "Next"


def test_half_written_failure_is_not_reported_and_the_next_one_is(make: Make) -> None:
    dependency = make()
    dependency.fail()
    head = admission_of(dependency.breaker).circuit.head
    (other,) = struct.unpack("=q", b"tornfail")
    head[at.FAILED_MESSAGE] = other
    assert dependency.breaker.snapshot().last_failure is None
    dependency.fail()
    assert last(dependency.breaker).message == "refused"


def test_failure_survives_every_length_of_names(clock: FakeClock) -> None:
    kind = type("Ü" * 300, (Exception,), {})
    breaker = CircuitBreaker("d", ledger=Ledger.in_memory(), clock=clock)
    with pytest.raises(kind):
        breaker.call(lambda: (_ for _ in ()).throw(kind("x")).__next__())
    assert last(breaker).type == "Ü" * 28
