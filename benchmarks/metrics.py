"""What a scrape of `/metrics` costs, on a host with many breakers and many workers."""

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

#: with five calls at once all tallies of the workers' blocks are in use
BREAKERS, WORKERS, AT_ONCE, ROUTES, ROUNDS = 100, 16, 1, 20, 50
#: milliseconds
LIMIT = 20
ACCEPT = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"  # what Prometheus asks for
_apps: dict[bool, Any] = {}


def scrape() -> Result:
    """Measure, in a worker of a service, the scrape and its parts, in milliseconds: median and best of the rounds.

    The limit is for the time of the processor, which is all that it needs: what else the machine does is left out.

    Each of the workers has called through every breaker, so many calls at once, and answered on every route.
    """
    with tempfile.TemporaryDirectory() as directory, workers(WORKERS) as started:
        for worker in started:
            worker.call(_serve, directory)
        rows: dict[str, tuple[float, ...]] = started[0].call(_measure)
    checks = [Check(f"{what}, CPU ms", busy, LIMIT) for what, (busy, *_) in rows.items() if what.startswith("GET")]
    return Result(f"Metrics of {BREAKERS} breakers, {WORKERS} workers", ("CPU ms", "ms", "best"), rows, checks)


def _serve(directory: str) -> None:
    """Be a worker that has done some work."""
    metrics = Path(directory) / "metrics"
    metrics.mkdir(exist_ok=True)
    os.environ |= {"PROMETHEUS_MULTIPROC_DIR": str(metrics), "CB_STATE_DIR": directory}
    from servicekit import create_service, load_settings  # not above: the environment decides where values live

    for per_breaker_names in (False, True):
        os.environ |= {
            "CB_METRICS__PER_BREAKER_NAMES": str(per_breaker_names),
            "CB_STATE__URL": f"shm://seed-names-{per_breaker_names}",
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
        "figures of all breakers": lambda: [breaker.stats() for breaker in registry],
        "snapshots of all breakers": lambda: [breaker.snapshot() for breaker in registry],
        "text of the breakers": lambda: plain.text(openmetrics=True),
        "the same, seed names too": lambda: both.text(openmetrics=True),
        "the same by prometheus_client": lambda: generate_latest(collected),
        f"text of {ROUTES} routes": lambda: files.text(openmetrics=True),
        "the same by prometheus_client's collector": lambda: generate_latest(merged),
        "GET /metrics": lambda: _get(per_breaker_names=False),
        "GET /metrics, seed names too": lambda: _get(per_breaker_names=True),
    }
    return {what: _time(part) for what, part in parts.items()}


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
