"""Cost of spans: a guarded HTTP call, a rejected call and a success, with and without OpenTelemetry."""

import contextlib
import statistics
import time
from collections.abc import Callable

import requests
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import NoOpTracerProvider, Tracer
from requests.adapters import HTTPAdapter

from cb import Registry
from cb.http import HTTPClient
from cb.integrations.opentelemetry import instrument

from .result import Check, Result

ROUNDS, CALLS = 30, 200
Call = Callable[[], object]


class _Instant(HTTPAdapter):
    """An adapter that responds at once: only the cost of the libraries remains."""

    def send(self, request: requests.PreparedRequest, *_: object, **__: object) -> requests.Response:
        response = requests.Response()
        response.status_code, response.request, response.raw = 200, request, _Body()
        return response


class _Body:
    def read(self, *_: object, **__: object) -> bytes:
        return b"{}"

    def close(self) -> None:
        """Do nothing."""

    release_conn = close


def tracing() -> Result:
    """Measure without tracing, with the OpenTelemetry API alone, and with the SDK inside a recorded span."""
    sdk = TracerProvider()  # without an exporter, which runs in another thread
    variants = {
        "off": (_calls(None, None), None),
        "no SDK": (_calls(NoOpTracerProvider(), NoOpMeterProvider()), None),
        "SDK": (_calls(sdk, MeterProvider([InMemoryMetricReader()])), sdk.get_tracer("benchmark")),
    }
    costs: dict[str, list[list[float]]] = {name: [[], [], []] for name in variants}
    for _ in range(ROUNDS):
        for name, (calls, tracer) in variants.items():
            for number, call in enumerate(calls):
                costs[name][number].append(_cost(call, tracer))
    rows = {name: tuple(statistics.median(values) for values in found) for name, found in costs.items()}
    checks = [
        Check("rejected with the SDK, in microseconds", rows["SDK"][1], 40),
        Check("success with the SDK / off", rows["SDK"][2] / rows["off"][2], 1.2),
    ]
    return Result("Tracing, in microseconds", ("HTTP call", "rejected", "success"), rows, checks)


def _calls(tracers: object, meters: object) -> tuple[Call, Call, Call]:
    registry = Registry()
    if tracers:
        instrument(registry, tracer_provider=tracers, meter_provider=meters)  # type: ignore[arg-type]  # providers of `tracing`
    session = requests.Session()
    session.trust_env = False
    session.mount("http://", _Instant())
    client = HTTPClient("http://instant", 5, registry.get("instant"), session)
    registry.get("open").control.force_open(reason="benchmark")
    rejected, succeeding = registry.get("open")(_work), registry.get("closed")(_work)

    def reject() -> None:
        with contextlib.suppress(Exception):
            rejected()

    return lambda: client.get_json("/a"), reject, succeeding


def _cost(call: Call, tracer: Tracer | None) -> float:
    with tracer.start_as_current_span("request") if tracer else contextlib.nullcontext():
        begin = time.perf_counter_ns()
        for _ in range(CALLS):
            call()
        return (time.perf_counter_ns() - begin) / CALLS / 1000


def _work() -> None:
    pass
