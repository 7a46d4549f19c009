"""Spans of guarded HTTP calls, and events on the current span, after the HTTP semantic conventions."""

from collections.abc import Callable, MutableMapping
from contextvars import Token
from functools import partial
from inspect import signature
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

# Private, without a public replacement: other instrumentations set and check these two keys.
from opentelemetry.context import _SUPPRESS_HTTP_INSTRUMENTATION_KEY as _HTTP_INSTRUMENTED
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY as _SUPPRESSED
from opentelemetry.context import Context, attach, detach, get_value, set_value
from opentelemetry.metrics import Histogram, Meter
from opentelemetry.propagate import extract, inject
from opentelemetry.trace import (
    Span,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    get_current_span,
    set_span_in_context,
)

from cb import CircuitOpenError, Event, Rejected, State, StateChange
from cb.clocks import perf_counter
from cb.http.observer import UNOBSERVED, CallObserver, HTTPObserver
from cb.log import Log

log = Log(__name__)

NAME, STATE, BEFORE = "circuit_breaker.name", "circuit_breaker.state", "circuit_breaker.previous_state"
METHODS = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"})
#: False before opentelemetry-api 1.30
_TAKES_CONTEXT = "context" in signature(Histogram.record).parameters
#: seconds, as the conventions advise
_BOUNDS = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10]
Attributes = dict[str, str | int | float | bool]


class SpanListener(HTTPObserver):
    """A listener that records spans and events.

    A rejected call is an event and not a span: no request was sent.

    Args:
        tracer: Tracer of the spans.
        meter: Meter of the histogram of durations.
    """

    def __init__(self, tracer: Tracer, meter: Meter) -> None:
        self._tracer = tracer
        create: Callable[..., Histogram] = partial(
            meter.create_histogram,
            "http.client.request.duration",
            unit="s",
            description="Duration of HTTP client requests.",
        )
        try:
            self._durations = create(explicit_bucket_boundaries_advisory=_BOUNDS)
        except TypeError:  # before opentelemetry-api 1.30, a view of the application has to set them
            self._durations = create()

    def __call__(self, event: Event) -> None:
        """Add an event to the current span for a rejected call or a change of state."""
        if isinstance(event, Rejected):
            attributes: Attributes = {STATE: event.state.value, "error.type": CircuitOpenError.__name__}
            if event.retry_after is not None:
                attributes["circuit_breaker.retry_after"] = event.retry_after
            _add_event("circuit_breaker.rejected", event.name, attributes)
        elif isinstance(event, StateChange):
            attributes = {BEFORE: event.before.value, STATE: event.after.value, "circuit_breaker.reason": event.reason}
            _add_event("circuit_breaker.state_change", event.name, attributes)

    def begin(
        self, breaker: str, state: State, method: str, url: str, headers: MutableMapping[str, str]
    ) -> CallObserver:
        """Start a span, or add the breaker's attributes to the span of another instrumentation of this request."""
        if get_value(_SUPPRESSED):
            return UNOBSERVED
        current = get_current_span()
        circuit: Attributes = {NAME: breaker, STATE: state.value}
        if get_value(_HTTP_INSTRUMENTED):
            current.set_attributes(circuit)
            return UNOBSERVED
        # Without a current span, the trace is the one of the headers, if they name one.
        context = None if current.get_span_context().is_valid else extract(headers)
        request = _request_attributes(method, url)
        name = str(request["http.request.method"]).replace("_OTHER", "HTTP")
        span = self._tracer.start_span(
            name, context, SpanKind.CLIENT, {**request, "url.full": _redacted(url), **circuit}
        )
        inside = set_span_in_context(span, context)
        if span.get_span_context().is_valid:
            headers.pop("tracestate", None)  # it may belong to another parent
            inject(headers, inside)
        return _SpanObserver(span, set_value(_HTTP_INSTRUMENTED, True, inside), request, self._durations)


class _SpanObserver(CallObserver):
    """The observer of a request with a span."""

    __slots__ = ("_attributes", "_context", "_durations", "_span", "_started", "_token")

    def __init__(self, span: Span, context: Context, attributes: Attributes, durations: Histogram) -> None:
        self._span: Span | None = span
        self._context = context
        self._attributes = attributes
        self._durations = durations
        self._started = perf_counter()

    def __enter__(self) -> Self:
        self._token: Token[Context] = attach(self._context)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        detach(self._token)
        if error:
            self.ended(error)

    def response_received(self, status: int) -> None:
        self._attributes["http.response.status_code"] = status
        if status >= 400:
            self._attributes["error.type"] = str(status)

    def ended(self, error: BaseException | None = None) -> None:
        span, self._span = self._span, None
        if span is None:
            return
        attributes = self._attributes
        if error:
            # Only the type: the message may quote the URL or the response.
            attributes.setdefault("error.type", type(error).__qualname__)
        try:
            context = (self._context,) if _TAKES_CONTEXT else ()
            self._durations.record(perf_counter() - self._started, attributes, *context)
            span.set_attributes(attributes)
            if "error.type" in attributes:
                span.set_status(Status(StatusCode.ERROR))
            span.end()
        except Exception:  # a span processor may raise, and the call must not fail
            log.exception("the span of a request cannot be ended")


def _add_event(name: str, breaker: str, attributes: Attributes) -> None:
    span = get_current_span()
    if span.is_recording():
        span.add_event(name, {NAME: breaker, **attributes})


def method_attributes(method: str) -> Attributes:
    """Return the attributes of an HTTP method. An unknown method is `_OTHER`, to limit the number of time series."""
    if method in METHODS:
        return {"http.request.method": method}
    return {"http.request.method": "_OTHER"}


def _request_attributes(method: str, url: str) -> Attributes:
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)
    return {**method_attributes(method), "server.address": parts.hostname or "", "server.port": port}


def _redacted(url: str) -> str:
    """Return a URL without user, password, query and fragment, which may be secret."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
