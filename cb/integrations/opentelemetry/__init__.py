"""Spans and metrics of breakers for OpenTelemetry. Needs the extra `otel`; costs nothing until it is asked for."""

from typing import TYPE_CHECKING

from opentelemetry.metrics import MeterProvider, get_meter
from opentelemetry.trace import TracerProvider, get_tracer

from cb import Registry

from .instruments import Instruments
from .spans import Spans

if TYPE_CHECKING:
    from flask import Flask

__all__ = ["instrument", "instrument_app"]

_SCOPE = "cb"
_SCHEMA = "https://opentelemetry.io/schemas/1.37.0"  # the HTTP conventions have been stable since 1.23


def instrument(
    registry: Registry,
    *,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
) -> None:
    """Make spans of the guarded HTTP calls of a registry, events of what its breakers tell, metrics of its ledger.

    Call it in every process, or once before a fork. The providers are by default the global ones. A registry that is
    instrumented already stays as it is.
    """
    if any(isinstance(listener, Spans) for listener in registry.listeners):
        return
    meter = get_meter(_SCOPE, meter_provider=meter_provider, schema_url=_SCHEMA)
    spans = Spans(get_tracer(_SCOPE, tracer_provider=tracer_provider, schema_url=_SCHEMA), meter)
    registry.listeners.append(spans)
    for breaker in registry:
        breaker.listeners.append(spans)
    Instruments(registry.ledger).offer(meter)


def instrument_app(
    app: "Flask",
    *,
    quiet: tuple[str, ...] = (),
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
) -> None:
    """Make spans of the requests of a Flask app, and, with `servicekit`, of its breakers' calls.

    Requests whose path begins with one of `quiet` get none.
    """
    from servicekit.tracing import Server

    Server(get_tracer(_SCOPE, tracer_provider=tracer_provider, schema_url=_SCHEMA), quiet).init_app(app)
    if known := app.extensions.get("circuit_breakers"):
        instrument(known.registry, tracer_provider=tracer_provider, meter_provider=meter_provider)
