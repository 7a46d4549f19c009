"""Spans of guarded HTTP calls, and events on the spans around them, in the words of the HTTP conventions."""

from collections.abc import MutableMapping
from contextvars import Token
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

# Private, for want of another place: the instrumentations of others set and heed these two keys.
from opentelemetry.context import _SUPPRESS_HTTP_INSTRUMENTATION_KEY as _HTTP_IS_SEEN
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

from cb.clocks import perf_counter
from cb.errors import CircuitOpenError
from cb.events import Event, Rejected, StateChange
from cb.http.observer import UNOBSERVED, CallObserver, HTTPObserver
from cb.log import Log
from cb.states import State

log = Log(__name__)

NAME, STATE, BEFORE = "circuit_breaker.name", "circuit_breaker.state", "circuit_breaker.previous_state"
METHODS = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"})
#: seconds, as the conventions advise
_BOUNDS = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10]
Attributes = dict[str, str | int | float | bool]


class Spans(HTTPObserver):
    """The listener that makes them. A refused call is an event: nothing was sent that a span could be of."""

    def __init__(self, tracer: Tracer, meter: Meter) -> None:
        self._tracer = tracer
        self._durations = meter.create_histogram(
            "http.client.request.duration",
            unit="s",
            description="Duration of HTTP client requests.",
            explicit_bucket_boundaries_advisory=_BOUNDS,
        )

    def __call__(self, event: Event) -> None:
        """Note on the current span that a call was refused, or that a circuit has changed its state."""
        if isinstance(event, Rejected):
            attributes: Attributes = {STATE: event.state.value, "error.type": CircuitOpenError.__name__}
            if event.retry_after is not None:
                attributes["circuit_breaker.retry_after"] = event.retry_after
            _note("circuit_breaker.rejected", event.name, attributes)
        elif isinstance(event, StateChange):
            attributes = {BEFORE: event.before.value, STATE: event.after.value, "circuit_breaker.reason": event.reason}
            _note("circuit_breaker.state_change", event.name, attributes)

    def begin(
        self, breaker: str, state: State, method: str, url: str, headers: MutableMapping[str, str]
    ) -> CallObserver:
        """Return a span, unless the one of somebody else is of this very request: that is told the breaker."""
        if get_value(_SUPPRESSED):
            return UNOBSERVED
        around = get_current_span()
        circuit: Attributes = {NAME: breaker, STATE: state.value}
        if get_value(_HTTP_IS_SEEN):
            around.set_attributes(circuit)
            return UNOBSERVED
        # Outside of all spans the headers may know the trace that the call belongs to.
        context = None if around.get_span_context().is_valid else extract(headers)
        request = _request(method, url)
        name = str(request["http.request.method"]).replace("_OTHER", "HTTP")
        span = self._tracer.start_span(name, context, SpanKind.CLIENT, {**request, "url.full": _plain(url), **circuit})
        inside = set_span_in_context(span, context)
        if span.get_span_context().is_valid:
            headers.pop("tracestate", None)  # of another parent, perhaps
            inject(headers, inside)
        return _Seen(span, set_value(_HTTP_IS_SEEN, True, inside), request, self._durations)


class _Seen(CallObserver):
    """An exchange with a span."""

    __slots__ = ("_attributes", "_begin", "_context", "_durations", "_span", "_token")

    def __init__(self, span: Span, context: Context, attributes: Attributes, durations: Histogram) -> None:
        self._span: Span | None = span
        self._context = context
        self._attributes = attributes
        self._durations = durations
        self._begin = perf_counter()

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
            # By its name only: what it says may quote the URL, or the answer.
            attributes.setdefault("error.type", type(error).__qualname__)
        try:
            self._durations.record(perf_counter() - self._begin, attributes, self._context)
            span.set_attributes(attributes)
            if "error.type" in attributes:
                span.set_status(Status(StatusCode.ERROR))
            span.end()
        except Exception:  # of a processor of spans: the call is none the worse for it
            log.exception("the span of an exchange cannot be ended")


def _note(what: str, breaker: str, attributes: Attributes) -> None:
    span = get_current_span()
    if span.is_recording():
        span.add_event(what, {NAME: breaker, **attributes})


def method_of(method: str) -> Attributes:
    """Return a method as attributes: one that is not known must not make a series of its own."""
    if method in METHODS:
        return {"http.request.method": method}
    return {"http.request.method": "_OTHER"}


def _request(method: str, url: str) -> Attributes:
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)
    return {**method_of(method), "server.address": parts.hostname or "", "server.port": port}


def _plain(url: str) -> str:
    """Return a URL without what may be secret: user, password, query and fragment."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
