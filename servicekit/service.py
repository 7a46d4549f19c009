"""The Flask app of a service, with the parts that all services share."""

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from flask import Flask, request

from cb.integrations.flask import CircuitBreakers, Problem, problem_response
from cb.integrations.flask.responses import add_security_headers
from cb.integrations.operations.request import choose_request_id
from cb.integrations.operations.request_input import MAX_BODY
from cb.ledger.ledger import Ledger
from cb.log import Log

from . import correlation, faults, health, logs, problems, rate_limit, trusted_hosts
from .access import require_operator
from .openapi import pages as openapi
from .settings import Settings

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

log = Log(__name__)

_METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})


def create_service(name: str, settings: Settings, about: str = "") -> Flask:
    """Create an app with breakers, health, status, live page, operators' routes, metrics, OpenAPI and error responses.

    Its parts are in `app.extensions`: `settings`, `circuit_breakers`, `simulators`, `health`, `metrics`, `openapi`,
    and `fleet` if the settings name a server for one. With $OTEL_EXPORTER_OTLP_ENDPOINT it creates spans and metrics
    for the global providers of OpenTelemetry.

    Args:
        name: Name of the service in responses, such as `trading-gateway`.
        settings: From `load_settings`.
        about: Description of the service in its OpenAPI document.
    """
    # Not above: prometheus_client decides at import, by the environment that gunicorn's configuration sets.
    from cb.integrations.prometheus import BreakerCollector

    from .metrics import Metrics

    app = Flask(__name__, static_folder=None, template_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY + 1
    app.json.sort_keys = False  # type: ignore[attr-defined]  # the default provider has it
    app.url_map.merge_slashes = False  # a redirected POST is sent twice
    app.extensions["settings"] = settings
    # Logging first: opening the ledger may log.
    for part in (correlation, logs, problems, trusted_hosts, rate_limit, health):
        part.init_app(app)
    app.after_request(add_security_headers)
    openapi.init_app(app, name, about)
    breakers = CircuitBreakers(
        app,
        name=name,
        ledger=Ledger.open(settings.state_url, directory=settings.state_dir),
        defaults=settings.breaker_defaults,
        overrides=settings.breaker_overrides,
        token=settings.admin_token,
        # The paths that clients of the services know, and a status that all may read; events are for operators.
        public=True,
        url_prefix="/api/v1/circuit-breaker",
        page_url="/dashboard",
    )
    app.before_request(_require_operator_for_events)
    registry = breakers.registry
    registry.ledger.join()
    faults.init_app(app)
    if os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
        _trace(app)
    if settings.fleet_url:
        from cb.fleet import Fleet

        app.extensions["fleet"] = Fleet(
            settings.fleet_url,
            registry.ledger,
            name=settings.name,
            sync_interval=settings.sync_interval,
        )
    app.extensions["metrics"] = Metrics(app, BreakerCollector(registry, per_breaker_names=settings.per_breaker_names))
    app.wsgi_app = KnownMethods(app.wsgi_app)  # type: ignore[method-assign]  # Flask's documented way to wrap an app
    return app


def _require_operator_for_events() -> None:
    if request.endpoint == "circuit_breakers.operator.events":
        require_operator()


def _trace(app: Flask) -> None:
    try:
        from .tracing import instrument_app
    except ModuleNotFoundError as error:  # the endpoint may be meant for another program in this environment
        log.warning("no traces: %s", error)
    else:
        instrument_app(app, quiet=logs.QUIET)


class KnownMethods:
    """WSGI middleware that refuses unknown HTTP methods, before each costs a time series of its own."""

    def __init__(self, app: "WSGIApplication") -> None:
        self._app = app

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] in _METHODS:
            return self._app(environ, start_response)
        allowed = ", ".join(sorted(_METHODS))
        request_id = choose_request_id(environ.get("HTTP_X_REQUEST_ID"))
        headers = {"Allow": allowed, "X-Request-ID": request_id}
        problem = Problem(
            405, "method-not-allowed", f"the method is not possible here, only {allowed}", headers=headers
        )
        return add_security_headers(problem_response(problem, request_id))(environ, start_response)
