"""Circuit breakers for any Flask app: `CircuitBreakers(app)`, or `init_app(app)` in a factory."""

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from flask import Flask, current_app, has_app_context

from cb.breaker import CircuitBreaker
from cb.clocks import monotonic_ns
from cb.config import BreakerConfig
from cb.errors import ConfigError
from cb.events import Listener
from cb.extras import needs
from cb.handles import ProcessBound
from cb.integrations.operations.extension_state import ExtensionState
from cb.integrations.operations.panel import Panel
from cb.integrations.operations.settings import admin_token, is_public, open_ledger, parse_config, parse_configs
from cb.ledger.ledger import Ledger
from cb.registry import Registry

from .error_handlers import register_error_handlers
from .own_routes import prefer_own_routes
from .routes import Paths, add_routes

if TYPE_CHECKING:
    import requests


class CircuitBreakers(ProcessBound):
    """A Flask extension: breakers that all workers of an app share, with a status, a live page and operators' routes.

    An open circuit whose error leaves a view is answered with 503, a full bulkhead with 429, unless the app handles
    these errors itself. The state of the extension is `app.extensions["circuit_breakers"]`.

    The app's own routes go before those of the extension, whichever were added first.

    Five keys of `app.config` take precedence over the arguments: `CB_LEDGER`, `CB_DEFAULTS` (a mapping), `CB_BREAKERS`
    (a mapping of each name to a mapping), `CB_PUBLIC` and `CB_ADMIN_TOKEN`, which the environment may hold too.

    Args:
        app: The app; None if `init_app` is called later.
        name: Name of the app in its status. By default `app.name`.
        ledger: A ledger or its URL. By default that of $CB_LEDGER or of the app's project, as for `shared=True`; in
            memory if the app is `TESTING`.
        defaults: Thresholds of all breakers.
        overrides: Thresholds of single breakers, by name.
        listeners: Listeners of all breakers. Changes of state are logged without one.
        token: Token of the operators, 16 to 200 printable characters. Without one only requests from this host may
            control breakers.
        public: True to show status, page and events to everyone. By default they are shown to requests from this host,
            and to those with the token.
        routes: False for none of the routes but `/metrics`.
        url_prefix: Prefix of the routes other than `/metrics`. By default `/circuit-breakers`, where also a route of
            the app for all paths, such as `/<path:path>`, goes before ours; a prefix given here is ours, and only
            routes of the app that begin with it go before.
        page_url: Path of the live page. By default the prefix and a slash.
        metrics: True for `/metrics`, with the metrics of HTTP requests and of the breakers, which is shown to everyone.
            Needs prometheus_client.
        panels: Further panels of the live page.
        clock: Nanoseconds of a monotonic clock, for tests.

    Raises:
        ConfigError: A setting breaks a rule.
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
        public: bool = False,
        routes: bool = True,
        url_prefix: str | None = None,
        page_url: str | None = None,
        metrics: bool = False,
        panels: Sequence[Panel] = (),
        clock: Callable[[], int] = monotonic_ns,
    ) -> None:
        self._name = name
        self._ledger = ledger
        self._defaults = defaults or BreakerConfig()
        self._overrides = dict(overrides or {})
        self._listeners = listeners
        self._token = token
        self._public = public
        self._routes = routes
        self._url_prefix = url_prefix
        self._page_url = page_url
        self._metrics = metrics
        self._panels = panels
        self._clock = clock
        self._latest: ExtensionState | None = None
        if app is not None:
            self.init_app(app)

    def __repr__(self) -> str:
        state = self._latest
        return f"<CircuitBreakers of {state.service!r}, {state.registry!r}>" if state else "<CircuitBreakers of no app>"

    def init_app(self, app: Flask) -> None:
        """Add the breakers to an app. Raises ConfigError."""
        if "circuit_breakers" in app.extensions:
            raise ConfigError("app", "have no circuit breakers yet", app)
        paths = Paths.of(self._url_prefix, self._page_url)
        token = admin_token(("CB_ADMIN_TOKEN", app.config.get("CB_ADMIN_TOKEN")), ("token", self._token))
        public = is_public(("CB_PUBLIC", app.config.get("CB_PUBLIC")), ("public", self._public))
        registry = self._registry(app)
        self._latest = ExtensionState(
            service=self._name or app.name,
            registry=registry,
            token=token,
            public=public,
            panels=list(self._panels),
            owner=self,
        )
        app.extensions["circuit_breakers"] = self._latest
        register_error_handlers(app)
        # Not now: the app may be made before its workers are forked.
        app.before_request(registry.ledger.join)
        if self._routes:
            add_routes(app, paths)
        if self._metrics:
            # Not above: prometheus_client decides at import, by the environment that gunicorn's configuration sets.
            with needs("prometheus", "prometheus_client"):
                from .metrics import Metrics

            Metrics(registry).init_app(app)
        if self._routes or self._metrics:
            prefer_own_routes(app, paths.given)

    def _registry(self, app: Flask) -> Registry:
        defaults = parse_config("CB_DEFAULTS", app.config.get("CB_DEFAULTS", {}), self._defaults)
        overrides = parse_configs("CB_BREAKERS", app.config.get("CB_BREAKERS", {}), defaults)
        return Registry(
            ledger=open_ledger(app.config.get("CB_LEDGER") or self._ledger or _default_ledger(app)),
            defaults=defaults,
            overrides=self._overrides | overrides,
            listeners=self._listeners,
            clock=self._clock,
        )

    @property
    def registry(self) -> Registry:
        """The breakers of the current app, or, outside of an app, of the latest one. Raises RuntimeError.

        A breaker that it returns belongs to that app: get it where it is used, if one process has several apps.
        """
        state = current_app.extensions.get("circuit_breakers") if has_app_context() else None
        if state is None or state.owner is not self:
            state = self._latest
        if state is None:
            raise RuntimeError("no app has these breakers yet: call init_app first, or ask inside of a view")
        return state.registry

    def session(self, name: str | None = None, **options: Any) -> "requests.Session":
        """Return a `cb.http.guarded_session` of the registry: with one breaker, or, without a name, one per host.

        It may be made before there is an app. Each request goes through the breakers of the current app, as `registry`
        has them.
        """
        from cb.http import guarded_session

        return guarded_session(cast("Registry", _CurrentRegistry(self)), name, **options)


class _CurrentRegistry:
    """The registry of the current app, for sessions, which may outlive an app. A copy by pickle is of one app."""

    def __init__(self, breakers: CircuitBreakers) -> None:
        self._breakers = breakers

    def __repr__(self) -> str:
        return f"<the current registry of {self._breakers!r}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return self._breakers.registry.__reduce__()

    def get(self, name: str) -> CircuitBreaker:
        return self._breakers.registry.get(name)


def _default_ledger(app: Flask) -> Ledger | str:
    if app.testing:  # a test must not open circuits of running services
        return "memory://"
    from cb.ledger.opened import default_ledger  # not above: an app that names its ledger does not need it

    module = sys.modules.get(app.import_name)
    return default_ledger(vars(module) if hasattr(module, "__file__") else {"__file__": app.root_path})
