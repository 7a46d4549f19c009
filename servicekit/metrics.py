"""`/metrics`: the HTTP metrics of prometheus-flask-exporter and those of the breakers."""

import os
from pathlib import Path
from typing import Any

from flask import Flask, request
from prometheus_client import CollectorRegistry, Gauge, disable_created_metrics
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from prometheus_flask_exporter import PrometheusMetrics

from cb.integrations.prometheus import BreakerCollector

from .ended_workers import request_merging
from .value_file import use_value_files
from .worker_files import WorkerFiles


class Metrics(PrometheusMetrics):  # type: ignore[misc]  # it ships no types
    """The exporter, with the same response from each worker.

    Under gunicorn the values of all workers are in $PROMETHEUS_MULTIPROC_DIR, and the exporter alone would show nothing
    else. This class adds the breakers and the collectors of a service.
    """

    def __init__(self, app: Flask, breakers: BreakerCollector) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # workers have no common time of creation
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
            use_value_files()
        # By rule: by path, each unknown path would be a time series of its own.
        super().__init__(app, group_by="url_rule", registry=CollectorRegistry())
        #: collectors that write their text themselves, which is faster
        self._writers: list[Any] = [breakers]
        #: further collectors, with the same values in each worker
        self.collectors: list[Collector] = [self.registry]
        if directory := os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
            request_merging(Path(directory))
            files = WorkerFiles(directory)
            self._writers.append(files)
            self.collectors = [files.rest]

    def register_endpoint(self, path: str, app: Flask | None = None) -> None:
        """Add the route, also under `flask run --debug`, where the exporter adds none."""

        @self.do_not_track()  # type: ignore[untyped-decorator]  # it has no types
        def prometheus_metrics() -> Any:
            names = request.args.getlist("name[]")
            text, content_type = self.generate_metrics(request.headers.get("Accept"), names)
            return text, 200, {"Content-Type": content_type}

        (app or self.app).add_url_rule(path, view_func=prometheus_metrics)

    def info(
        self, name: str, description: str, labelnames: Any = None, labelvalues: Any = None, **labels: Any
    ) -> Gauge:
        """Create a gauge whose series is removed when its worker ends."""
        gauge = Gauge(
            name, description, labelnames or tuple(labels), registry=self.registry, multiprocess_mode="livemax"
        )
        (gauge.labels(*(labelvalues or labels.values())) if labelnames or labels else gauge).set(1)
        return gauge

    def generate_metrics(self, accept_header: str | None = None, names: list[str] | None = None) -> tuple[str, str]:
        """Return all metrics, or those with the given names, and their content type."""
        scrape: Any = CollectorRegistry(support_collectors_without_names=True)
        for collector in self.collectors:
            scrape.register(collector)
        try:
            encode, content_type = choose_encoder(accept_header or "")
        except (TypeError, ValueError):  # an invalid version
            encode, content_type = choose_encoder("")
        if names:
            for writer in self._writers:
                scrape.register(writer)
            return encode(scrape.restricted_registry(names)).decode(), content_type
        openmetrics = content_type.startswith("application/openmetrics-text")
        texts = [writer.text(openmetrics=openmetrics) for writer in self._writers]
        return "".join([*texts, encode(scrape).decode()]), content_type  # the end of OpenMetrics comes last
