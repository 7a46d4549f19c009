"""Spans and metrics of real workers, whose providers were made before the fork."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.support.shop_service import Service
from tests.support.waiting import until

GUNICORN = "gunicorn", "-c", "config/gunicorn.conf.py", "shop:create_app()"
TRACED = f"import exporting, sys; sys.argv = {[*GUNICORN]!r}; from gunicorn.app.wsgiapp import run; run()"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


class Traced(Service):
    """The shop, and its exported OpenTelemetry data."""

    def __init__(self, directory: Path) -> None:
        self.exported = directory / "exported"
        self.exported.touch()
        super().__init__(
            directory / "log",
            ("-c", TRACED),
            EXPORTED=str(self.exported),
            OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:4318",
        )

    def told(self, kind: str) -> list[tuple[int, Any]]:
        found = [json.loads(line) for line in self.exported.read_text().rpartition("\n")[0].splitlines()]
        return [(each["pid"], each[kind]) for each in found if kind in each]

    def successes(self) -> dict[int, int]:
        """Return the latest count of successes of each process."""
        return {
            pid: point["value"]
            for pid, data in self.told("metrics")
            for resource in data["resource_metrics"]
            for scope in resource["scope_metrics"]
            for metric in scope["metrics"]
            if metric["name"] == "circuit_breaker.requests"
            for point in metric["data"]["data_points"]
            if point["attributes"]["circuit_breaker.outcome"] == "success"
        }


@pytest.fixture
def traced(config: Path, tmp_path: Path) -> Iterator[Traced]:
    service = Traced(tmp_path)
    try:
        service.wait_until_up()
        yield service
    finally:
        service.stop()


def buy(traced: Traced, times: int) -> set[int]:
    """Return which workers have served so many requests."""
    workers = set()
    for _ in range(times):
        headers = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01", "Connection": "close"}
        answer = requests.get(f"{traced.url}/api/v1/stock/pen", headers=headers, timeout=5)
        assert answer.ok
        workers.add(int(answer.headers["X-Worker"]))
    return workers


def others_serve(traced: Traced, dead: str) -> bool:
    try:
        return dead not in traced.from_each_worker("/api/v1/health/live")
    except requests.ConnectionError:
        return False  # it was the dying worker that had taken the connection


def test_workers_create_spans_named_in_the_log_and_one_exports_the_metrics_of_all(traced: Traced) -> None:
    # No process reports what the other one serves before the reporter's app is loaded.
    until(traced.successes)
    workers, made = buy(traced, 20), 20
    while len(workers) < 2:
        workers, made = workers | buy(traced, 1), made + 1
    until(lambda: sum(traced.successes().values()) == made)
    until(lambda: len(traced.told("span")) == made)
    assert {pid for pid, _ in traced.told("span")} == workers
    assert len(traced.successes()) == 1
    spans = [span for _, span in traced.told("span") if span["context"]["trace_id"] == f"0x{TRACE}"]
    assert len(spans) == made
    lines = [json.loads(line) for line in traced.log.read_text().splitlines()]
    named = {line["span_id"] for line in lines if line.get("trace_id") == TRACE}
    assert named == {span["context"]["span_id"].removeprefix("0x") for span in spans}

    (reporter,) = traced.successes()
    exports = len(traced.told("metrics"))
    until(lambda: len(traced.told("metrics")) > exports + 2)  # so the other one has seen what was told, too
    os.kill(reporter, signal.SIGKILL)
    until(lambda: others_serve(traced, str(reporter)))
    until(lambda: len(traced.successes()) == 2)  # another one goes on
    buy(traced, 5)
    until(lambda: sum(traced.successes().values()) >= made + 5)
    traced.stop()
    assert sum(traced.successes().values()) == made + 5
