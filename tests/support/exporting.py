"""Writes the OpenTelemetry data of this process and its children to $EXPORTED, one JSON object per line.

It stands for what `opentelemetry-instrument` does: the providers are there before the service is.
"""

import json
import os
from typing import Any

from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    MetricExporter,
    MetricExportResult,
    MetricsData,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult


def write(**what: Any) -> None:
    with open(os.environ["EXPORTED"], "ab", buffering=0) as file:  # noqa: PTH123 - whole lines, from many processes
        file.write(json.dumps({"pid": os.getpid(), **what}).encode() + b"\n")


class Spans(SpanExporter):
    def export(self, spans: Any) -> SpanExportResult:
        for span in spans:
            write(span=json.loads(span.to_json()))
        return SpanExportResult.SUCCESS


class Metrics(MetricExporter):
    def export(self, metrics_data: MetricsData, *_: Any, **__: Any) -> MetricExportResult:
        write(metrics=json.loads(metrics_data.to_json()))
        return MetricExportResult.SUCCESS

    def force_flush(self, *_: Any) -> bool:
        return True

    def shutdown(self, *_: Any, **__: Any) -> None:
        pass


tracer_provider = TracerProvider()
tracer_provider.add_span_processor(BatchSpanProcessor(Spans(), schedule_delay_millis=100))
trace.set_tracer_provider(tracer_provider)
metrics.set_meter_provider(MeterProvider([PeriodicExportingMetricReader(Metrics(), export_interval_millis=200)]))
