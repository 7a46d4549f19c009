"""`/metrics`: the HTTP metrics of prometheus-flask-exporter and those of the breakers."""

import os
from typing import Any

from flask import Flask
from prometheus_client import CollectorRegistry, Gauge, disable_created_metrics
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector
from prometheus_flask_exporter import PrometheusMetrics

from cb.metrics import BreakerCollector


class Metrics(PrometheusMetrics):  # type: ignore[misc]  # it ships no types
    """The exporter, with one answer whichever worker gives it.

    Under gunicorn the values of all workers lie in $PROMETHEUS_MULTIPROC_DIR; the exporter reads them into a registry
    made for each scrape, in which nothing else is registered. Ours has the breakers too.
    """

    def __init__(self, app: Flask, breakers: BreakerCollector) -> None:
        self._breakers = breakers
        #: what else says at each scrape what is so, whichever worker is asked
        self.collectors: list[Collector] = []
        disable_created_metrics()  # type: ignore[no-untyped-call]  # workers have no common time of creation
        # By rule: by path, every unknown path would be a series of its own.
        super().__init__(app, group_by="url_rule", registry=CollectorRegistry())

    def info(
        self, name: str, description: str, labelnames: Any = None, labelvalues: Any = None, **labels: Any
    ) -> Gauge:
        """Make a gauge that leaves no series behind when a worker dies."""
        gauge = Gauge(
            name, description, labelnames or tuple(labels), registry=self.registry, multiprocess_mode="livemax"
        )
        (gauge.labels(*(labelvalues or labels.values())) if labelnames or labels else gauge).set(1)
        return gauge

    def generate_metrics(self, accept_header: str | None = None, names: list[str] | None = None) -> tuple[str, str]:
        """Return all metrics, or those of some names, and their content type."""
        scrape: Any = CollectorRegistry(support_collectors_without_names=True)
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
            MultiProcessCollector(scrape)  # type: ignore[no-untyped-call]  # it has no types
        else:
            scrape.register(self.registry)
        for collector in self.collectors:
            scrape.register(collector)
        try:
            encode, content_type = choose_encoder(accept_header or "")
        except (TypeError, ValueError):  # a version that is none
            encode, content_type = choose_encoder("")
        if names:
            scrape.register(self._breakers)
            return encode(scrape.restricted_registry(names)).decode(), content_type
        # The breakers write their text themselves, which is quicker, and first: OpenMetrics has a last line.
        breakers = self._breakers.text(openmetrics=content_type.startswith("application/openmetrics-text"))
        return breakers + encode(scrape).decode(), content_type
