"""Circuit breakers for any Flask app: `CircuitBreakers(app)`, or `init_app(app)` in a factory."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from flask import Blueprint, Flask, current_app, has_app_context

from cb.clocks import monotonic_ns
from cb.config import BreakerConfig
from cb.errors import ConfigError
from cb.events import Listener
from cb.handles import ProcessBound
from cb.ledger.ledger import Ledger
from cb.registry import Registry
from servicekit import problems
from servicekit.logs import log_event
from servicekit.security_headers import add_security_headers
from servicekit.tokens import checked_token, read_token

from . import operator, page, status
from .extension_state import ExtensionState

if TYPE_CHECKING:
    import requests


class CircuitBreakers(ProcessBound):
    """Gives Flask apps breakers that all their workers share, and shows, steers and answers for them.

    `registry` makes the breakers; `app.extensions["circuit_breakers"]` has it too. An open circuit whose error leaves a
    view is 503, a full bulkhead 429, unless the app has an answer of its own.

    The ledger is `shm://NAME`, of the app's name, or `memory://` where the app is `testing`. Below `url_prefix` are the
    status, the live page and what operators do, unless `routes` are not wanted; `metrics` is `/metrics`, of HTTP and of
    the breakers. What an app's config says goes before what is said here: `CB_LEDGER`, `CB_DEFAULTS` (a mapping),
    `CB_BREAKERS` (one for each name) and `CB_ADMIN_TOKEN`, which the environment may hold too. Raises ConfigError.
    """

    def __init__(
        self,
        app: Flask | None = None,
        *,
        name: str | None = None,
        ledger: Ledger | str | None = None,
        defaults: BreakerConfig | None = None,
        overrides: Mapping[str, BreakerConfig] | None = None,
        listeners: Sequence[Listener] = (),
        token: str | None = None,
        routes: bool = True,
        url_prefix: str = "",
        metrics: bool = False,
        clock: Callable[[], int] = monotonic_ns,
    ) -> None:
        self._name = name
        self._ledger = ledger
        self._defaults = defaults or BreakerConfig()
        self._overrides = dict(overrides or {})
        self._listeners = listeners
        self._token = token
        self._routes = routes
        self._url_prefix = url_prefix
        self._metrics = metrics
        self._clock = clock
        self._latest: ExtensionState | None = None
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Give them to an app. Raises ConfigError, and SettingsError for a token in the environment."""
        registry = self._registry(app)
        token = self._admin_token(app)
        self._latest = ExtensionState(service=self._name or app.name, registry=registry, token=token, owner=self)
        app.extensions["circuit_breakers"] = self._latest
        problems.answer_refusals(app)
        # Not now: the app may be made before its workers are forked.
        app.before_request(registry.ledger.join)
        if self._routes:
            app.extensions["dashboard"] = page.Dashboard()
            app.register_blueprint(_routes(), url_prefix=self._url_prefix)
        if self._metrics:
            # Not above: prometheus_client decides at import, by the environment that gunicorn's conf sets.
            from cb.integrations.prometheus import BreakerCollector
            from servicekit.metrics import Metrics

            app.extensions["metrics"] = Metrics(app, BreakerCollector(registry))

    def _admin_token(self, app: Flask) -> str | None:
        for field, given in (("CB_ADMIN_TOKEN", app.config.get("CB_ADMIN_TOKEN")), ("token", self._token)):
            if given is not None:
                return checked_token(field, given)
        return read_token("CB_ADMIN_TOKEN", os.environ)

    def _registry(self, app: Flask) -> Registry:
        defaults = _config("CB_DEFAULTS", app.config.get("CB_DEFAULTS", {}), self._defaults)
        given = _mapping("CB_BREAKERS", app.config.get("CB_BREAKERS", {}))
        overrides = {name: _config(f"CB_BREAKERS.{name}", each, defaults) for name, each in given.items()}
        return Registry(
            ledger=_open(app.config.get("CB_LEDGER") or self._ledger or _default_ledger(app)),
            defaults=defaults,
            overrides=self._overrides | overrides,
            listeners=[log_event, *self._listeners],
            clock=self._clock,
        )

    @property
    def registry(self) -> Registry:
        """That of the running app; where none runs, that of the app which was given last. Raises RuntimeError."""
        found = current_app.extensions.get("circuit_breakers") if has_app_context() else None
        if found is None or found.owner is not self:
            found = self._latest
        if found is None:
            raise RuntimeError("no app has these breakers yet: call init_app first")
        return found.registry

    def session(self, name: str | None = None, **options: Any) -> "requests.Session":
        """Return a `guarded_session` of the registry: with a breaker of that name, or else one for each host."""
        from cb.http import guarded_session

        return guarded_session(self.registry, name, **options)


def _default_ledger(app: Flask) -> str:
    return "memory://" if app.testing else f"shm://{app.name}"  # a test must not open the circuits of what runs here


def _open(ledger: Ledger | str) -> Ledger:
    if isinstance(ledger, Ledger):
        return ledger
    try:
        return Ledger.open(ledger)
    except ConfigError as error:
        raise ConfigError("CB_LEDGER", error.rule, error.value) from error


def _config(field: str, given: object, defaults: BreakerConfig) -> BreakerConfig:
    settings = _mapping(field, given)
    try:
        return BreakerConfig.parse(settings, defaults)
    except ConfigError as error:
        raise ConfigError(f"{field}.{error.field}", error.rule, error.value) from error


def _mapping(field: str, given: object) -> Mapping[str, Any]:
    if not isinstance(given, Mapping):
        raise ConfigError(field, "be a mapping", given)
    return given


def _routes() -> Blueprint:
    """Return the routes under one name, so that an app may call its own as it likes."""
    routes = Blueprint("circuit_breakers", __name__)
    for each in (status.bp, operator.bp, page.bp):
        routes.register_blueprint(each)
    routes.url_value_preprocessor(_exempt_from_csrf)  # it comes before the hooks that run before a request
    routes.after_request(add_security_headers)
    return routes


def _exempt_from_csrf(endpoint: str | None, _: object) -> None:
    """Have Flask-WTF's CSRFProtect let operators pass: they show a token or send JSON, which no form of others can."""
    exempt = getattr(current_app.extensions.get("csrf"), "exempt", None)
    if exempt is not None and endpoint is not None:
        exempt(current_app.view_functions[endpoint])
