import os
import socket
import threading
from pathlib import Path

import pytest

from cb import Bulkhead, BulkheadFullError, CircuitOpenError, Ledger, Registry, State
from cb.integrations.opentelemetry import instrument
from tests.support.telemetry import Telemetry


def fail() -> None:
    raise OSError


def test_metrics_equal_the_ledger(registry: Registry, telemetry: Telemetry) -> None:
    instrument(registry, **telemetry.providers)
    stock = registry.get("stock")
    for _ in range(3):
        stock.call(len, ())
    for _ in range(2):
        with pytest.raises(OSError):
            stock.call(fail)
    with pytest.raises(CircuitOpenError):
        stock.call(len, ())

    assert telemetry.values("circuit_breaker.requests") == {
        ("stock", "success"): 3,
        ("stock", "failure"): 2,
        ("stock", "neutral"): 0,
        ("stock", "late"): 0,
    }
    assert telemetry.values("circuit_breaker.rejected") == {
        ("stock", "CircuitOpenError"): 1,
        ("stock", "BulkheadFullError"): 0,
    }
    assert telemetry.values("circuit_breaker.state_changes") == {("stock", "CLOSED", "OPEN"): 1}
    states = telemetry.values("circuit_breaker.state")
    assert {state for (_, state), value in states.items() if value} == {"OPEN"}
    assert len(states) == len(State)
    assert telemetry.values("circuit_breaker.request.time")["stock",] == stock.snapshot().latency.sum > 0
    assert telemetry.values("circuit_breaker.bulkhead.limit") == {}


def test_running_calls_and_full_bulkheads_are_reported(registry: Registry, telemetry: Telemetry) -> None:
    instrument(registry, **telemetry.providers)
    bulkhead = Bulkhead(registry.get("stock"), 1)
    with bulkhead:
        with pytest.raises(BulkheadFullError):
            bulkhead.call(len, ())
        assert telemetry.values("circuit_breaker.active_requests") == {("stock",): 1}
        assert telemetry.values("circuit_breaker.bulkhead.limit") == {("stock",): 1}
    assert telemetry.values("circuit_breaker.active_requests") == {("stock",): 0}
    assert telemetry.values("circuit_breaker.rejected")["stock", "BulkheadFullError"] == 1


def test_units_are_those_of_the_conventions(registry: Registry, telemetry: Telemetry) -> None:
    instrument(registry, **telemetry.providers)
    bulkhead = Bulkhead(registry.get("stock"), 1)
    bulkhead.call(len, ())
    bulkhead.breaker.control.disable(reason="test")
    data = telemetry.reader.get_metrics_data()
    assert data
    units = {m.name: m.unit for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics}
    assert units == {
        "circuit_breaker.requests": "{request}",
        "circuit_breaker.rejected": "{request}",
        "circuit_breaker.state_changes": "{change}",
        "circuit_breaker.request.time": "s",
        "circuit_breaker.state": "1",
        "circuit_breaker.active_requests": "{request}",
        "circuit_breaker.bulkhead.limit": "{request}",
    }


def test_earlier_calls_are_not_reported_again(tmp_path: Path, telemetry: Telemetry) -> None:
    ledger = Ledger.in_file(tmp_path / "l")
    Registry(ledger=ledger).get("stock").call(len, ())
    registry = Registry(ledger=ledger)
    instrument(registry, **telemetry.providers)
    registry.get("stock").call(len, ())
    assert telemetry.values("circuit_breaker.requests")["stock", "success"] == 1


def test_breakers_of_other_processes_are_reported(tmp_path: Path, telemetry: Telemetry) -> None:
    instrument(Registry(ledger=Ledger.in_file(tmp_path / "l")), **telemetry.providers)
    Registry(ledger=Ledger.in_file(tmp_path / "l")).get("elsewhere").call(len, ())
    assert telemetry.values("circuit_breaker.requests")["elsewhere", "success"] == 1


def test_one_process_reports_and_the_next_continues(tmp_path: Path, telemetry: Telemetry) -> None:
    registry = Registry(ledger=Ledger.in_file(tmp_path / "l"))
    stock = registry.get("stock")
    instrument(registry, **telemetry.providers)  # before the fork, as with --preload
    ours, theirs = socket.socketpair()
    child = os.fork()
    if child == 0:  # the first to collect becomes the leader, and reports the changes since the fork
        ours.close()
        stock.call(len, ())
        theirs.send(bytes([int(telemetry.values("circuit_breaker.requests")["stock", "success"])]))
        theirs.recv(1)
        os._exit(0)
    theirs.close()
    with ours:
        assert ours.recv(1) == b"\x01"
        stock.call(len, ())
        assert telemetry.values("circuit_breaker.requests") == {}
        stock.call(len, ())
    os.waitpid(child, 0)
    assert telemetry.values("circuit_breaker.requests")["stock", "success"] == 1


def test_concurrent_collections_report_everything(registry: Registry, telemetry: Telemetry) -> None:
    instrument(registry, **telemetry.providers)
    registry.get("stock").call(len, ())
    found: list[float] = []
    threads = [
        threading.Thread(target=lambda: found.append(telemetry.values("circuit_breaker.requests")["stock", "success"]))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [1] * 4
