from typing import Any

import pytest
import requests
from opentelemetry import trace
from opentelemetry.context import (
    _SUPPRESS_HTTP_INSTRUMENTATION_KEY,  # set by other instrumentations, too
    _SUPPRESS_INSTRUMENTATION_KEY,
    attach,
    detach,
    set_value,
)
from opentelemetry.trace import SpanKind, StatusCode, get_current_span

from cb import CircuitOpenError, Registry
from cb.bulkhead import Bulkhead
from cb.http import CircuitBreakerAdapter, ClientErrorResponse, HTTPClient, InvalidResponse, ServiceUnavailable
from cb.integrations.opentelemetry import instrument
from tests.support.misbehaving import Server, answer, hang_up, send_half
from tests.support.telemetry import Telemetry, attributes, sent, traceparent

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


@pytest.fixture
def client(registry: Registry, telemetry: Telemetry, server: Server) -> HTTPClient:
    instrument(registry, **telemetry.providers)
    return HTTPClient(server.url, 2, registry.get("stock"))


def test_call_of_a_client_is_one_span_and_sends_its_traceparent(
    client: HTTPClient, telemetry: Telemetry, server: Server
) -> None:
    client.get_json("/a/b")
    (span,) = telemetry.spans
    port = int(server.url.rpartition(":")[2])
    assert (span.name, span.kind, span.status.status_code) == ("GET", SpanKind.CLIENT, StatusCode.UNSET)
    assert attributes(span) == {
        "http.request.method": "GET",
        "url.full": f"{server.url}/a/b",
        "server.address": "127.0.0.1",
        "server.port": port,
        "http.response.status_code": 200,
        "circuit_breaker.name": "stock",
        "circuit_breaker.state": "CLOSED",
    }
    assert sent(server, "traceparent") == [traceparent(span)]


def test_call_within_a_span_is_its_child(client: HTTPClient, telemetry: Telemetry) -> None:
    with telemetry.tracer_provider.get_tracer("t").start_as_current_span("outer") as outer:
        client.get_json("/a")
        assert get_current_span() is outer
    call = telemetry.spans[0]
    assert call.parent == outer.get_span_context()


def test_call_without_a_current_span_stays_in_the_trace_of_its_headers(
    registry: Registry, telemetry: Telemetry, server: Server
) -> None:
    instrument(registry, **telemetry.providers)
    headers = {"traceparent": PARENT, "tracestate": "a=b"}
    HTTPClient(server.url, 2, registry.get("stock"), headers=lambda: headers).get_json("/a")
    (span,) = telemetry.spans
    assert span.context and format(span.context.trace_id, "032x") == TRACE
    assert sent(server, "traceparent") == [traceparent(span)]
    assert sent(server, "tracestate") == ["a=b"]
    assert headers["traceparent"] == PARENT


def test_call_within_a_span_drops_the_tracestate_of_another_trace(
    registry: Registry, telemetry: Telemetry, server: Server
) -> None:
    instrument(registry, **telemetry.providers)
    headers = {"traceparent": PARENT, "tracestate": "a=b"}
    with telemetry.tracer_provider.get_tracer("t").start_as_current_span("outer"):
        HTTPClient(server.url, 2, registry.get("stock"), headers=lambda: headers).get_json("/a")
    assert sent(server, "traceparent") == [traceparent(telemetry.spans[0])]
    assert sent(server, "tracestate") == []


@pytest.mark.parametrize(
    "case",
    [
        (answer(404, "{}"), ClientErrorResponse, ("404", 404)),
        (answer(503, "{}"), ServiceUnavailable, ("503", 503)),
        (answer(200, "[]"), InvalidResponse, ("InvalidResponse", 200)),
        (hang_up, ServiceUnavailable, ("ConnectionError", None)),
        (send_half, ServiceUnavailable, ("ProtocolError", 200)),
    ],
    ids=["refused", "failing", "bad", "lost", "half"],
)
def test_failed_call_is_a_span_with_its_error_type(
    client: HTTPClient, telemetry: Telemetry, server: Server, case: tuple[Any, type[Exception], tuple[str, int]]
) -> None:
    server.act, error, told = case
    with pytest.raises(error):
        client.get_json("/a")
    (span,) = telemetry.spans
    assert span.status.status_code is StatusCode.ERROR
    assert (attributes(span)["error.type"], attributes(span).get("http.response.status_code")) == told
    assert span.events == ()  # an exception may quote a secret


def test_span_of_a_probe_has_the_state_half_open(client: HTTPClient, registry: Registry, telemetry: Telemetry) -> None:
    registry.get("stock").control.disable(reason="test")
    client.get_json("/a")
    assert attributes(telemetry.spans[0])["circuit_breaker.state"] == "DISABLED"


def test_rejected_call_is_an_event_of_the_current_span(
    client: HTTPClient, registry: Registry, telemetry: Telemetry, server: Server
) -> None:
    breaker = registry.get("stock")
    breaker.control.force_open(reason="test", duration=60)
    with telemetry.tracer_provider.get_tracer("t").start_as_current_span("outer"):
        with pytest.raises(CircuitOpenError):
            client.get_json("/a")
        with pytest.raises(CircuitOpenError):
            breaker.call(len, ())
    (outer,) = telemetry.spans
    told = [(event.name, dict(event.attributes or {})) for event in outer.events]
    assert [(name, facts["error.type"], facts["circuit_breaker.state"]) for name, facts in told] == [
        ("circuit_breaker.rejected", "CircuitOpenError", "FORCED_OPEN")
    ] * 2
    assert 0 < told[0][1]["circuit_breaker.retry_after"] <= 60
    assert server.requests == []


def test_change_of_state_is_an_event_of_the_current_span(
    client: HTTPClient, telemetry: Telemetry, server: Server
) -> None:
    server.act = answer(500, "{}")
    with telemetry.tracer_provider.get_tracer("t").start_as_current_span("outer"):
        for _ in range(2):
            with pytest.raises(ServiceUnavailable):
                client.get_json("/a")
    (event,) = telemetry.spans[-1].events
    assert event.name == "circuit_breaker.state_change"
    assert dict(event.attributes or {}) == {
        "circuit_breaker.name": "stock",
        "circuit_breaker.previous_state": "CLOSED",
        "circuit_breaker.state": "OPEN",
        "circuit_breaker.reason": "2 consecutive failures",
    }


def test_call_through_a_bulkhead_is_a_span(registry: Registry, telemetry: Telemetry, server: Server) -> None:
    instrument(registry, **telemetry.providers)
    HTTPClient(server.url, 2, Bulkhead(registry.get("stock"), 3)).get_json("/a")
    assert attributes(telemetry.spans[0])["circuit_breaker.name"] == "stock"


def test_suppressed_instrumentation_records_nothing(client: HTTPClient, telemetry: Telemetry) -> None:
    token = attach(set_value(_SUPPRESS_INSTRUMENTATION_KEY, True))
    client.get_json("/a")
    detach(token)
    assert telemetry.spans == ()


def test_instrumentation_of_lower_layers_is_suppressed(
    client: HTTPClient, telemetry: Telemetry, server: Server
) -> None:
    from opentelemetry.context import get_value

    seen: list[object] = []

    class Lower(CircuitBreakerAdapter):
        def send(self, *args: Any, **kwargs: Any) -> requests.Response:
            seen.extend((get_value(_SUPPRESS_HTTP_INSTRUMENTATION_KEY), get_current_span().get_span_context()))
            return super().send(*args, **kwargs)

    with requests.Session() as session:
        session.mount("http://", Lower(Registry(), "below"))
        HTTPClient(server.url, 2, client._guard, session).get_json("/a")  # noqa: SLF001 - the guard with the listeners
    assert seen == [True, telemetry.spans[0].context]
    assert not get_value(_SUPPRESS_HTTP_INSTRUMENTATION_KEY)


def test_failing_exporter_fails_no_call(
    client: HTTPClient, telemetry: Telemetry, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(trace.Tracer):
        def start_span(self, *_: Any, **__: Any) -> Any:
            raise RuntimeError("broken")

        start_as_current_span = start_span

    (spans,) = client._guard.listeners  # noqa: SLF001 - the guard with the listeners
    spans._tracer = Broken()  # noqa: SLF001 - no public way to a tracer that fails
    assert client.get_json("/a") == {}
    assert "observer" in caplog.text


def test_duration_of_a_call_is_in_the_histogram_of_the_conventions(
    client: HTTPClient, telemetry: Telemetry, server: Server
) -> None:
    client.get_json("/a")
    server.act = answer(503, "{}")
    with pytest.raises(ServiceUnavailable):
        client.get_json("/a")
    points = telemetry.points("http.client.request.duration")
    assert sorted((dict(key).get("error.type", ""), point.count) for key, point in points.items()) == [
        ("", 1),
        ("503", 1),
    ]
    assert all(0 < point.sum < 5 and 0.005 in point.explicit_bounds for point in points.values())


def test_registry_is_instrumented_once(registry: Registry, telemetry: Telemetry, server: Server) -> None:
    breaker = registry.get("stock")
    for _ in range(2):
        instrument(registry, **telemetry.providers)
    HTTPClient(server.url, 2, breaker).get_json("/a")
    assert len(telemetry.spans) == 1


def test_call_without_an_sdk_passes_its_trace_on(registry: Registry, server: Server) -> None:
    instrument(registry, tracer_provider=trace.NoOpTracerProvider())
    HTTPClient(server.url, 2, registry.get("stock"), headers=lambda: {"traceparent": PARENT}).get_json("/a")
    assert sent(server, "traceparent") == [PARENT]
