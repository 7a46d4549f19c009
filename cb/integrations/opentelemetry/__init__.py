"""OpenTelemetry: spans of guarded HTTP calls, events of breakers, metrics of a ledger. Needs the extra `otel`."""

from cb import Registry
from cb.extras import needs

with needs("otel", "opentelemetry"):
    from opentelemetry.metrics import MeterProvider, get_meter
    from opentelemetry.trace import TracerProvider, get_tracer

    from .instruments import Instruments
    from .spans import SpanListener

__all__ = ["instrument"]

_SCOPE = "cb"
_SCHEMA = "https://opentelemetry.io/schemas/1.37.0"  # the HTTP conventions have been stable since 1.23


def instrument(
    registry: Registry,
    *,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
) -> None:
    """Record spans of the HTTP calls through a registry's breakers, their events, and metrics of its ledger.

    Call it in every process, or once before a fork. A registry that is already instrumented is left unchanged.

    Args:
        registry: Registry whose breakers are instrumented, those created later included.
        tracer_provider: Provider of the tracer; the global one by default.
        meter_provider: Provider of the meter; the global one by default.
    """
    if any(isinstance(listener, SpanListener) for listener in registry.listeners):
        return
    meter = get_meter(_SCOPE, meter_provider=meter_provider, schema_url=_SCHEMA)
    listener = SpanListener(get_tracer(_SCOPE, tracer_provider=tracer_provider, schema_url=_SCHEMA), meter)
    registry.listeners.append(listener)
    for breaker in registry:
        breaker.listeners.append(listener)
    Instruments(registry.ledger).register(meter)
