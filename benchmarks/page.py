"""Duration of a poll of the live page, at a gateway under gunicorn."""

import statistics
import tempfile
import time
from pathlib import Path

import requests

from .load import running
from .result import Check, Result

ROUNDS = 300
#: Milliseconds.
LIMIT = 10
ORDER = {"userId": "page", "symbol": "AAPL", "quantity": 1, "orderType": "BUY", "price": "150.00"}
PATHS = ("/dashboard/data", "/api/v1/circuit-breaker/status", "/api/v1/health/live")


def poll() -> Result:
    """Measure the poll, its largest part, and a minimal request, in milliseconds at the client."""
    Path("run").mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory(dir="run") as directory,
        running(Path(directory)) as url,
        requests.Session() as one,
    ):
        one.trust_env = False
        for _ in range(20):
            one.post(f"{url}/api/v1/trades", json=ORDER, timeout=10).raise_for_status()
        rows = {path: _percentiles(one, url + path) for path in PATHS}
    return Result(
        "Poll of the live page", ("p50", "p95", "p99"), rows, [Check("p95 of a poll in ms", rows[PATHS[0]][1], LIMIT)]
    )


def _percentiles(session: requests.Session, url: str) -> tuple[float, ...]:
    took = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        session.get(url, timeout=10).raise_for_status()
        took.append((time.perf_counter() - begun) * 1000)
    cuts = statistics.quantiles(took, n=100)
    return cuts[49], cuts[94], cuts[98]
