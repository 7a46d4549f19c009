import json
import logging
from typing import Any

import pytest
from flask import Flask
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.trace import SpanKind, StatusCode, get_current_span

from servicekit import Simulation, create_service, load_settings
from servicekit.tracing import instrument_app
from tests.support.shop import create_app
from tests.support.shop_service import config  # noqa: F401 - a fixture of the shop, requested by name
from tests.support.telemetry import Telemetry

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
HEADERS = {"traceparent": f"00-{TRACE}-{SPAN}-01", "X-Request-ID": "mine"}


@pytest.fixture
def telemetry() -> Telemetry:
    return Telemetry.new()


@pytest.fixture
def plain(telemetry: Telemetry) -> Flask:
    """Return an app that does not use the service kit."""
    app = Flask("plain")
    instrument_app(app, quiet=("/metrics",), **telemetry.providers)

    def show(name: str) -> dict[str, str]:
        return {"name": name, "span": format(get_current_span().get_span_context().span_id, "016x")}

    app.add_url_rule("/item/<name>", "item", show)
    app.add_url_rule("/bug", "bug", lambda: 1 / 0)
    app.add_url_rule("/metrics", "metrics", dict)
    return app


def test_request_is_a_span_in_the_trace_of_its_headers(plain: Flask, telemetry: Telemetry) -> None:
    answer = plain.test_client().get("/item/pen?token=secret", headers=HEADERS)
    (span,) = telemetry.spans
    assert span.context and span.parent and answer.json
    assert (f"{span.context.trace_id:032x}", f"{span.parent.span_id:016x}") == (TRACE, SPAN)
    assert answer.json["span"] == f"{span.context.span_id:016x}"
    assert (span.name, span.kind) == ("GET /item/<name>", SpanKind.SERVER)
    assert dict(span.attributes or {}) == {
        "http.request.method": "GET",
        "url.scheme": "http",
        "url.path": "/item/pen",
        "http.route": "/item/<name>",
        "http.response.status_code": 200,
    }
    assert not get_current_span().get_span_context().is_valid


def test_malformed_traceparent_begins_a_trace(plain: Flask, telemetry: Telemetry) -> None:
    plain.test_client().get("/item/pen", headers={"traceparent": "00-0-0-0"})
    assert telemetry.spans[0].parent is None


def test_request_that_fails_is_a_span_with_its_error(plain: Flask, telemetry: Telemetry) -> None:
    plain.test_client().get("/bug")
    plain.test_client().get("/nothing")
    bug, nothing = telemetry.spans
    assert (bug.status.status_code, (bug.attributes or {})["error.type"]) == (StatusCode.ERROR, "ZeroDivisionError")
    assert (nothing.name, nothing.status.status_code) == ("GET", StatusCode.UNSET)


def test_quiet_path_has_no_span(plain: Flask, telemetry: Telemetry) -> None:
    plain.test_client().get("/metrics")
    assert telemetry.spans == ()


@pytest.mark.parametrize("how", ["span", "mark"])
def test_app_with_another_instrumentation_gets_no_second_span(plain: Flask, telemetry: Telemetry, how: str) -> None:
    if how == "mark":  # as Flask's instrumentation does
        plain._is_instrumented_by_opentelemetry = True  # type: ignore[attr-defined]  # noqa: SLF001 - an attribute of that instrumentation
        plain.test_client().get("/item/pen")
        assert telemetry.spans == ()
        return
    with telemetry.tracer_provider.get_tracer("theirs").start_as_current_span("theirs"):
        plain.test_client().get("/item/pen")
    assert [span.name for span in telemetry.spans] == ["theirs"]


def test_lines_and_span_of_a_request_have_the_same_ids(
    config: Any,  # noqa: F811 - the fixture
    telemetry: Telemetry,
    capsys: pytest.CaptureFixture[str],
) -> None:
    app = create_app()
    instrument_app(app, **telemetry.providers)
    app.extensions["faults"].set(Simulation(is_healthy=False))
    for _ in range(4):
        app.test_client().get("/api/v1/stock/pen", headers=HEADERS)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert {(line["request_id"], line["trace_id"]) for line in lines} == {("mine", TRACE)}
    (change,) = [line for line in lines if line["logger"] == "cb.circuits"]
    third, fourth = telemetry.spans[2:]
    assert third.context and change["span_id"] == f"{third.context.span_id:016x}"
    assert [event.name for event in third.events] == ["circuit_breaker.state_change"]
    assert [event.name for event in fourth.events] == ["circuit_breaker.rejected"]


def test_service_with_an_otlp_endpoint_is_instrumented(
    config: Any,  # noqa: F811 - the fixture
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = load_settings("shop")
    assert "tracing" not in create_service("shop", settings).extensions
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
    app = create_service("shop", settings)
    assert "tracing" in app.extensions
    assert len(app.extensions["circuit_breakers"].registry.listeners) == 1


def test_service_without_the_extra_logs_a_warning_and_starts(
    config: Any,  # noqa: F811 - the fixture
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    import sys

    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
    monkeypatch.delitem(sys.modules, "servicekit.tracing", raising=False)
    monkeypatch.setitem(sys.modules, "cb.integrations.opentelemetry", None)
    with caplog.at_level(logging.WARNING):
        create_service("shop", load_settings("shop"))
    assert "no traces: " in caplog.text


def test_teardown_that_raises_ends_the_span(plain: Flask, telemetry: Telemetry) -> None:
    @plain.teardown_request
    def fail(_: BaseException | None) -> None:
        raise RuntimeError

    for _ in range(2):
        with pytest.raises(RuntimeError):
            plain.test_client().get("/item/pen")
        assert not get_current_span().get_span_context().is_valid
    assert len(telemetry.spans) == 2


@pytest.mark.parametrize("when", ["on_start", "on_end"])
def test_span_processor_that_raises_fails_no_request(
    plain: Flask, telemetry: Telemetry, when: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(SpanProcessor):
        pass

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError

    setattr(Broken, when, fail)
    telemetry.tracer_provider.add_span_processor(Broken())
    assert plain.test_client().get("/item/pen").status_code == 200
    assert "the span of a request cannot be" in caplog.text
    assert not get_current_span().get_span_context().is_valid
