"""`GET /metrics`: HTTP requests and breakers, for all workers of a host."""

from collections.abc import Iterator
from typing import Any

import prometheus_client
from flask import Flask, Response, g, request
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector

from cb.clocks import perf_counter
from cb.integrations.prometheus import BreakerCollector
from cb.registry import Registry

from .own_routes import METRICS, METRICS_PATH

_METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})


class Metrics:
    """The metrics of one app. Create it after gunicorn's configuration has set $PROMETHEUS_MULTIPROC_DIR.

    With that directory, the values that all workers share through it are shown, otherwise those of this process.
    """

    def __init__(self, breakers: Registry) -> None:
        _disable_created_metrics()  # workers have no common time of creation
        self._breakers = BreakerCollector(breakers)
        self._own = CollectorRegistry()
        # The names and labels of prometheus-flask-exporter, so that its dashboards can be used.
        self._requests = Counter(
            "flask_http_request", "Total number of HTTP requests", ("method", "status"), registry=self._own
        )
        self._seconds = Histogram(
            "flask_http_request_duration_seconds",
            "Flask HTTP request duration in seconds",
            ("method", "url_rule", "status"),
            registry=self._own,
        )

    def init_app(self, app: Flask) -> None:
        """Add the route, and count the requests of an app."""
        app.before_request(_start)
        app.after_request(self._count)
        app.add_url_rule(METRICS_PATH, METRICS, self._show)

    def _count(self, response: Response) -> Response:
        if request.endpoint != METRICS:
            # Labels that clients choose freely would create a time series per value: unknown methods and paths.
            method = request.method if request.method in _METHODS else "OTHER"
            rule = request.url_rule.rule if request.url_rule else ""
            self._requests.labels(method, response.status_code).inc()
            if "metrics_start" in g:
                self._seconds.labels(method, rule, response.status_code).observe(perf_counter() - g.metrics_start)
        return response

    def _show(self) -> Response:
        names = request.args.getlist("name[]")
        scrape: Any = CollectorRegistry()
        try:
            MultiProcessCollector(scrape)  # type: ignore[no-untyped-call]  # it has no types
        except ValueError:  # there is no such directory
            scrape.register(self._own)
        try:
            encode, content_type = choose_encoder(request.headers.get("Accept") or "")
        except (TypeError, ValueError):  # an invalid version
            encode, content_type = choose_encoder("")
        if names:
            scrape.register(self._breakers)
            return Response(encode(_Restricted(scrape, names)), content_type=content_type)
        openmetrics = content_type.startswith("application/openmetrics-text")
        text = self._breakers.text(openmetrics=openmetrics).encode()
        return Response(text + encode(scrape), content_type=content_type)  # the end of OpenMetrics comes last


class _Restricted:
    """The series of a registry that have one of some names. Registries themselves find only collectors with names."""

    def __init__(self, registry: CollectorRegistry, names: list[str]) -> None:
        self._registry = registry
        self._names = frozenset(names)

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics that have such series."""
        for metric in self._registry.collect():
            samples = [sample for sample in metric.samples if sample.name in self._names]
            if samples:
                found = Metric(metric.name, metric.documentation, metric.type, metric.unit)
                found.samples = samples
                yield found


def _disable_created_metrics() -> None:
    disable: Any = getattr(prometheus_client, "disable_created_metrics", None)
    if disable:
        disable()
    else:  # it has only a variable of the environment, which it has read
        prometheus_client.metrics._use_created = False  # noqa: SLF001 - for the reason above


def _start() -> None:
    g.metrics_start = perf_counter()
