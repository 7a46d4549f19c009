"""A Flask app with all that every service of a platform has."""

import os

from flask import Flask

from cb.integrations.flask import CircuitBreakers
from cb.integrations.flask.event_log import log_event
from cb.integrations.flask.request_input import MAX_BODY
from cb.integrations.flask.security_headers import add_security_headers
from cb.ledger.ledger import Ledger
from cb.log import Log

from . import correlation, faults, health, logs, problems, rate_limit, trusted_hosts
from .http_methods import KnownMethods
from .openapi import pages as openapi
from .settings import Settings

log = Log(__name__)


def create_service(name: str, settings: Settings, about: str = "") -> Flask:
    """Return an app with breakers and what is around them: health, status, live page, operators, metrics, problems.

    `name` is what the service calls itself in its answers, such as `trading-gateway`, and `about` says in its contract
    what it is. Its parts are in `app.extensions`: `settings`, `circuit_breakers`, `dashboard`, `health`, `metrics`,
    `openapi`, and `fleet` where the settings name a server for one. With $OTEL_EXPORTER_OTLP_ENDPOINT it makes spans
    and metrics for OpenTelemetry's providers.
    """
    # Not above: prometheus_client decides at import, by the environment that gunicorn's configuration sets.
    from cb.integrations.prometheus import BreakerCollector

    from .metrics import Metrics

    app = Flask(__name__, static_folder=None, template_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY + 1
    app.json.sort_keys = False  # type: ignore[attr-defined]  # the default provider has it
    app.url_map.merge_slashes = False  # a redirected order is an order sent twice
    app.extensions["settings"] = settings
    # The log first: opening the ledger may say something.
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
    )
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
            listeners=[log_event],
        )
    app.extensions["metrics"] = Metrics(app, BreakerCollector(registry, per_breaker_names=settings.per_breaker_names))
    app.wsgi_app = KnownMethods(app.wsgi_app)  # type: ignore[method-assign]  # Flask's documented way to wrap an app
    return app


def _trace(app: Flask) -> None:
    try:
        from .tracing import instrument_app
    except ModuleNotFoundError as error:  # the endpoint may be meant for a neighbour in the same environment
        log.warning("no traces: %s", error)
    else:
        instrument_app(app, quiet=logs.QUIET)
