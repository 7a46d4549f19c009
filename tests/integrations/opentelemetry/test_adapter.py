from contextlib import suppress

import pytest
import requests
from opentelemetry.context import (
    _SUPPRESS_HTTP_INSTRUMENTATION_KEY,  # set by other instrumentations, too
    attach,
    detach,
    set_value,
)

from cb import Registry
from cb.http import CircuitBreakerAdapter
from cb.integrations.opentelemetry import instrument
from tests.support.misbehaving import Server, answer, hang_up, send_half
from tests.support.telemetry import Telemetry, attributes, sent, traceparent


@pytest.fixture
def guarded(registry: Registry, telemetry: Telemetry, session: requests.Session) -> requests.Session:
    instrument(registry, **telemetry.providers)
    session.mount("http://", CircuitBreakerAdapter(registry, "stock"))
    return session


def test_span_of_an_adapter_ends_with_the_body(guarded: requests.Session, telemetry: Telemetry, server: Server) -> None:
    server.act = answer(200, '{"a": 1}')
    response = guarded.get(server.url + "/a?token=secret#part", stream=True, timeout=5)
    assert telemetry.spans == ()
    assert response.json() == {"a": 1}
    (span,) = telemetry.spans
    assert attributes(span)["url.full"] == f"{server.url}/a"
    assert sent(server, "traceparent") == [traceparent(span)]
    guarded.get(server.url, timeout=5)
    assert sent(server, "traceparent") == [traceparent(telemetry.spans[1])]


def test_body_that_is_cut_off_is_the_error_of_the_span(
    guarded: requests.Session, telemetry: Telemetry, server: Server
) -> None:
    server.act = send_half
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        guarded.get(server.url, timeout=5)
    (span,) = telemetry.spans
    assert attributes(span)["error.type"] == "ProtocolError"


def test_failure_status_and_lost_connection_are_errors_of_spans(
    guarded: requests.Session, telemetry: Telemetry, server: Server
) -> None:
    server.act = answer(503, "{}")
    guarded.get(server.url, timeout=5)
    server.act = hang_up
    with pytest.raises(requests.ConnectionError):
        guarded.get(server.url, timeout=5)
    assert [attributes(span)["error.type"] for span in telemetry.spans] == ["503", "ConnectionError"]


def test_no_span_and_no_event_holds_a_credential(
    guarded: requests.Session, telemetry: Telemetry, server: Server
) -> None:
    url = server.url.replace("://", "://user:hidden-pass@")
    with telemetry.tracer_provider.get_tracer("t").start_as_current_span("outer"):
        for act in (answer(200, "{}"), hang_up):
            server.act = act
            with suppress(requests.ConnectionError):
                guarded.get(f"{url}/a?key=hidden-key", timeout=5, headers={"Authorization": "Bearer hidden-token"})
    assert len(telemetry.spans) == 3
    assert "hidden" not in "".join(span.to_json() for span in telemetry.spans)


def test_unknown_method_has_a_common_span_name(guarded: requests.Session, telemetry: Telemetry, server: Server) -> None:
    guarded.request("BREW", server.url, timeout=5)
    (span,) = telemetry.spans
    assert (span.name, attributes(span)["http.request.method"]) == ("HTTP", "_OTHER")


def test_span_of_another_instrumentation_gets_the_breakers_attributes(
    guarded: requests.Session, telemetry: Telemetry, server: Server
) -> None:
    with telemetry.tracer_provider.get_tracer("theirs").start_as_current_span("GET"):
        token = attach(set_value(_SUPPRESS_HTTP_INSTRUMENTATION_KEY, True))
        guarded.get(server.url, timeout=5)
        detach(token)
    (span,) = telemetry.spans
    assert attributes(span) == {"circuit_breaker.name": "stock", "circuit_breaker.state": "CLOSED"}
    assert sent(server, "traceparent") == []
