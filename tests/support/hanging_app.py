"""A WSGI app whose `/` calls, through a breaker, a dependency that hangs; `/state` only looks."""

import json
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from cb import BreakerConfig, CircuitBreaker, CircuitOpenError, Ledger

CONFIG = BreakerConfig(
    minimum_requests=2,
    failure_rate_threshold=1.0,
    slow_call_duration=1.0,
    slow_call_rate_threshold=0.5 if "HANG_SLOW_OPENS" in os.environ else None,
    call_timeout=float(os.environ["HANG_CALL_TIMEOUT"]) if "HANG_CALL_TIMEOUT" in os.environ else None,
)


def create_app() -> Callable[..., Iterable[bytes]]:
    breaker = CircuitBreaker("d", CONFIG, ledger=Ledger.in_file(os.environ["HANG_LEDGER"]))

    def app(environ: dict[str, str], start_response: Callable[..., object]) -> Iterable[bytes]:
        status = "200 OK"
        if environ["PATH_INFO"] == "/":
            try:
                with Path(f"{os.environ['HANG_LEDGER']}.callers").open("a", encoding="ascii") as callers:
                    callers.write(f"{os.getpid()}\n")
                breaker.call(time.sleep, 60)
            except CircuitOpenError:
                status = "503 Service Unavailable"
        seen = breaker.snapshot()
        body = json.dumps(
            {"pid": os.getpid(), "state": seen.state, "in_flight": seen.in_flight, "failures": seen.totals.failures}
        ).encode()
        start_response(status, [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
        return [body]

    return app
