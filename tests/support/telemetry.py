"""The SDK of OpenTelemetry with exporters in memory."""

import re
from dataclasses import dataclass
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.support.misbehaving import Server


@dataclass
class Telemetry:
    """Providers, and the spans and metrics recorded so far."""

    exporter: InMemorySpanExporter
    reader: InMemoryMetricReader
    tracer_provider: TracerProvider
    meter_provider: MeterProvider

    @classmethod
    def new(cls) -> "Telemetry":
        exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
        tracer_provider = TracerProvider(shutdown_on_exit=False)
        tracer_provider.add_span_processor(SimpleSpanProcessor(exporter))
        return cls(exporter, reader, tracer_provider, MeterProvider([reader], shutdown_on_exit=False))

    @property
    def providers(self) -> dict[str, Any]:
        return {"tracer_provider": self.tracer_provider, "meter_provider": self.meter_provider}

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        return self.exporter.get_finished_spans()

    def points(self, name: str) -> dict[frozenset[tuple[str, Any]], Any]:
        """Return the current points of a metric by their attributes."""
        data = self.reader.get_metrics_data()
        metrics = [m for r in (data.resource_metrics if data else []) for s in r.scope_metrics for m in s.metrics]
        return {frozenset(p.attributes.items()): p for m in metrics if m.name == name for p in m.data.data_points}

    def values(self, name: str, *left_out: str) -> dict[tuple[Any, ...], float]:
        """Return the values of a sum by the values of its attributes, sorted by name."""
        return {
            tuple(value for key, value in sorted(key) if key not in left_out): point.value
            for key, point in self.points(name).items()
        }


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def sent(server: Server, name: str) -> list[str]:
    return re.findall(rf"(?im)^{name}: (.*?)\r?$", server.requests[-1])


def traceparent(span: ReadableSpan) -> str:
    assert span.context
    return f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}-{span.context.trace_flags:02x}"
