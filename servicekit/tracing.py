"""A span of each request that a Flask app serves, where no other instrumentation makes one."""

from contextvars import Token

from flask import Flask, Response, g, request
from opentelemetry.context import Context, attach, detach
from opentelemetry.metrics import MeterProvider
from opentelemetry.propagate import extract
from opentelemetry.trace import (
    Span,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    TracerProvider,
    format_span_id,
    format_trace_id,
    get_current_span,
    get_tracer,
    set_span_in_context,
)

from cb.integrations.opentelemetry import instrument
from cb.integrations.opentelemetry.spans import method_attributes
from cb.log import Log

log = Log(__name__)

_SCHEMA = "https://opentelemetry.io/schemas/1.37.0"  # the HTTP conventions have been stable since 1.23
#: of Flask's instrumentation: true for an app that has it
_THEIRS = "_is_instrumented_by_opentelemetry"


def instrument_app(
    app: Flask,
    *,
    quiet: tuple[str, ...] = (),
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
) -> None:
    """Record spans of the requests of a Flask app, and of the calls of its breakers.

    Args:
        app: The app, instrumented at most once.
        quiet: Prefixes of paths without spans.
        tracer_provider: Provider of the tracer; the global one by default.
        meter_provider: Provider of the meter; the global one by default.
    """
    Server(get_tracer(__name__, tracer_provider=tracer_provider, schema_url=_SCHEMA), quiet).init_app(app)
    if state := app.extensions.get("circuit_breakers"):
        instrument(state.registry, tracer_provider=tracer_provider, meter_provider=meter_provider)


class Server:
    """The hooks of an app."""

    def __init__(self, tracer: Tracer, quiet: tuple[str, ...]) -> None:
        self._tracer = tracer
        self._quiet = quiet

    def init_app(self, app: Flask) -> None:
        """Create spans for the requests of an app, and add their ids to its log. A second call does nothing."""
        if "tracing" in app.extensions:
            return
        app.extensions["tracing"] = ids
        app.before_request(lambda: None if getattr(app, _THEIRS, False) else self._begin())
        app.after_request(_answer)
        app.teardown_appcontext(_end)  # which runs even where a teardown of the request raises

    def _begin(self) -> None:
        if request.path.startswith(self._quiet or "\n") or get_current_span().get_span_context().is_valid:
            return
        parent = extract(request.headers)
        attributes = {**method_attributes(request.method), "url.scheme": request.scheme, "url.path": request.path}
        name = str(attributes["http.request.method"]).replace("_OTHER", "HTTP")
        if request.url_rule:
            attributes["http.route"] = request.url_rule.rule
            name = f"{name} {request.url_rule.rule}"
        try:
            span = self._tracer.start_span(name, parent, SpanKind.SERVER, attributes)
        except Exception:  # of a processor of spans: the request is none the worse for it
            log.exception("the span of a request cannot be begun")
            return
        g.cb_span = span, attach(set_span_in_context(span, parent))


def ids() -> dict[str, str]:
    """Return the ids of the current span, none without one."""
    context = get_current_span().get_span_context()
    if not context.is_valid:
        return {}
    return {"trace_id": format_trace_id(context.trace_id), "span_id": format_span_id(context.span_id)}


def _answer(response: Response) -> Response:
    if "cb_span" in g:
        span: Span = g.cb_span[0]
        span.set_attribute("http.response.status_code", response.status_code)
        if response.status_code >= 500:
            span.set_attribute("error.type", str(response.status_code))
            span.set_status(Status(StatusCode.ERROR))
    return response


def _end(error: BaseException | None) -> None:
    if "cb_span" not in g:
        return
    begun: tuple[Span, Token[Context]] = g.pop("cb_span")
    span, token = begun
    detach(token)
    if error:
        span.set_attribute("error.type", type(error).__qualname__)
        span.set_status(Status(StatusCode.ERROR))
    try:
        span.end()
    except Exception:  # as above
        log.exception("the span of a request cannot be ended")
