"""Log handlers that raise, or that call through a breaker, lose no result of a call."""

import logging
import threading
from collections.abc import Callable, Iterator

import pytest

from cb import CircuitBreaker, Ledger
from cb.events import Event
from cb.log import Log


class Handler(logging.Handler):
    """Calls a function with each record."""

    def __init__(self, emit: Callable[[logging.LogRecord], object]) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []
        self._emit = emit

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)
        self._emit(record)


@pytest.fixture
def handle() -> Iterator[Callable[[Callable[[logging.LogRecord], object]], Handler]]:
    """Yield a function that adds a handler to the library's logger."""
    logger, added = logging.getLogger("cb"), list[Handler]()

    def handle(emit: Callable[[logging.LogRecord], object]) -> Handler:
        added.append(Handler(emit))
        logger.addHandler(added[-1])
        return added[-1]

    yield handle
    for handler in added:
        logger.removeHandler(handler)


def away(_: object) -> None:
    raise OSError("the log server is away")


def fail(_: Event) -> None:
    raise ArithmeticError("the listener fails")


def test_caller_gets_its_own_error_if_listener_and_log_handler_fail(
    handle: Callable[[Callable[[logging.LogRecord], object]], Handler], capsys: pytest.CaptureFixture[str]
) -> None:
    handler = handle(away)
    breaker = CircuitBreaker("d", ledger=Ledger.in_memory(), listeners=[fail])

    for _ in range(10):  # one of them opens the circuit
        with pytest.raises((KeyError, Exception)) as caught:
            breaker.call({}.__getitem__, "missing")
        assert type(caught.value).__name__ in ("KeyError", "CircuitOpenError")

    assert handler.records
    assert "OSError: the log server is away" in capsys.readouterr().err


def test_log_handler_that_calls_through_a_breaker_with_failing_listener_gets_each_line_once(
    handle: Callable[[Callable[[logging.LogRecord], object]], Handler], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "cb")  # the resets themselves are INFO
    breaker = CircuitBreaker("logs", ledger=Ledger.in_memory(), listeners=[fail])
    breaker.control.reset(reason="not yet")

    handler = handle(lambda _: breaker.control.reset(reason="its own event makes the listener fail again"))
    breaker.control.reset(reason="now")

    assert len(handler.records) == 1


def test_line_of_another_thread_is_logged_while_a_handler_runs(
    handle: Callable[[Callable[[logging.LogRecord], object]], Handler],
) -> None:
    log, other = Log("cb.tests"), []

    def emit(record: logging.LogRecord) -> None:
        if record.getMessage() == "line 1":
            thread = threading.Thread(target=lambda: log.warning("line %d", 2))
            other.append(thread)
            thread.start()  # it waits for this handler, and is then logged

    handler = handle(emit)
    log.warning("line %d", 1)
    other[0].join()

    assert [record.getMessage() for record in handler.records] == ["line 1", "line 2"]


def test_line_names_the_place_that_logs(
    handle: Callable[[Callable[[logging.LogRecord], object]], Handler],
) -> None:
    handler = handle(lambda _: None)
    log = Log("cb.tests")

    log.warning("one")
    log.log(logging.ERROR, "other", extra={"facts": 1})
    try:
        raise KeyError
    except KeyError:
        log.exception("third")

    assert {record.funcName for record in handler.records} == {"test_line_names_the_place_that_logs"}
    assert [record.levelname for record in handler.records] == ["WARNING", "ERROR", "ERROR"]
    assert handler.records[2].exc_info


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_interruption_in_a_handler_reaches_the_caller_and_the_line_is_logged_again(
    handle: Callable[[Callable[[logging.LogRecord], object]], Handler], error: type[BaseException]
) -> None:
    def interrupt(_: object) -> None:
        raise error

    handler, log = handle(interrupt), Log("cb.tests")
    for _ in range(2):
        with pytest.raises(error):
            log.warning("line")

    assert len(handler.records) == 2
