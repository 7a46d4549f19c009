"""Cost of a scrape of `/metrics` on a host with many breakers and many workers."""

import logging
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cb import CircuitBreaker
from cb.testing import workers

from .result import Check, Result

#: AT_ONCE calls run at the same time in each worker; with five, all stripes of its shard are in use.
BREAKERS, WORKERS, AT_ONCE, ROUTES, ROUNDS = 100, 16, 1, 20, 50
#: Milliseconds.
LIMIT = 20
ACCEPT = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"  # as sent by Prometheus
_apps: dict[bool, Any] = {}


def scrape() -> Result:
    """Measure the scrape and its parts in a worker of a service, in milliseconds: median and best of the rounds.

    The limit applies to CPU time, which other programs do not affect. Each worker has called through every breaker,
    with AT_ONCE calls at the same time, and has answered on every route.
    """
    with tempfile.TemporaryDirectory() as directory, workers(WORKERS) as started:
        for worker in started:
            worker.call(_serve, directory)
        rows: dict[str, tuple[float, ...]] = started[0].call(_measure)
    checks = [Check(f"{part}, CPU ms", busy, LIMIT) for part, (busy, *_) in rows.items() if part.startswith("GET")]
    return Result(f"Metrics of {BREAKERS} breakers, {WORKERS} workers", ("CPU ms", "ms", "best"), rows, checks)


def _serve(directory: str) -> None:
    """Create the app of a worker, and make calls and requests in it."""
    metrics = Path(directory) / "metrics"
    metrics.mkdir(exist_ok=True)
    os.environ |= {"PROMETHEUS_MULTIPROC_DIR": str(metrics), "CB_STATE_DIR": directory}
    from servicekit import (  # not at the top: the environment decides the directory of the files
        create_service,
        load_settings,
    )

    for per_breaker_names in (False, True):
        os.environ |= {
            "CB_METRICS__PER_BREAKER_NAMES": str(per_breaker_names),
            "CB_STATE__URL": f"shm://per-breaker-names-{per_breaker_names}",
        }
        app = _apps[per_breaker_names] = create_service("bench", load_settings("gateway"))
        for number in range(BREAKERS):
            _nest(app.extensions["circuit_breakers"].registry.get(f"dependency-{number}"), AT_ONCE)
    logging.disable()
    for number in range(ROUTES):
        app.add_url_rule(f"/route-{number}", str(number), view_func=dict)
    for number in range(ROUTES):
        app.test_client().get(f"/route-{number}")


def _nest(breaker: CircuitBreaker, depth: int) -> None:
    if depth:
        breaker.call(_nest, breaker, depth - 1)


def _measure() -> dict[str, tuple[float, float, float]]:
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.multiprocess import MultiProcessCollector

    from cb.integrations.prometheus import BreakerCollector
    from servicekit.worker_files import WorkerFiles

    registry = _apps[True].extensions["circuit_breakers"].registry
    plain, both = BreakerCollector(registry), BreakerCollector(registry, per_breaker_names=True)
    collected, merged = CollectorRegistry(), CollectorRegistry()
    collected.register(both)
    MultiProcessCollector(merged)
    files = WorkerFiles(os.environ["PROMETHEUS_MULTIPROC_DIR"])
    parts: dict[str, Callable[[], object]] = {
        "stats of all breakers": lambda: [breaker.stats() for breaker in registry],
        "snapshots of all breakers": lambda: [breaker.snapshot() for breaker in registry],
        "text of the breakers": lambda: plain.text(openmetrics=True),
        "the same, with per-breaker names": lambda: both.text(openmetrics=True),
        "the same by prometheus_client": lambda: generate_latest(collected),
        f"text of {ROUTES} routes": lambda: files.text(openmetrics=True),
        "the same by prometheus_client's collector": lambda: generate_latest(merged),
        "GET /metrics": lambda: _get(per_breaker_names=False),
        "GET /metrics, with per-breaker names": lambda: _get(per_breaker_names=True),
    }
    return {name: _time(part) for name, part in parts.items()}


def _get(*, per_breaker_names: bool) -> None:
    assert _apps[per_breaker_names].test_client().get("/metrics", headers={"Accept": ACCEPT}).status_code == 200


def _time(part: Callable[[], object]) -> tuple[float, float, float]:
    part()
    spans, busy = [], []
    for _ in range(ROUNDS):
        begin, begun = time.perf_counter_ns(), time.thread_time_ns()
        part()
        busy.append((time.thread_time_ns() - begun) / 1e6)
        spans.append((time.perf_counter_ns() - begin) / 1e6)
    return statistics.median(busy), statistics.median(spans), min(spans)
