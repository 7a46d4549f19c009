"""Circuit breakers for any ASGI app: `CircuitBreakers(app)`, or `init_app(app)` in a factory."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from cb.clocks import monotonic_ns
from cb.config import BreakerConfig
from cb.errors import ConfigError
from cb.events import Listener
from cb.extras import needs
from cb.handles import ProcessBound
from cb.integrations.operations.extension_state import ExtensionState
from cb.integrations.operations.panel import Panel
from cb.integrations.operations.routes import Route, Routes
from cb.integrations.operations.settings import DEFAULT_PREFIX, admin_token, check_path, is_public, open_ledger
from cb.ledger.ledger import Ledger
from cb.ledger.opened import default_ledger
from cb.ledger.project import calling_namespace
from cb.registry import Registry

from .messages import App, Receive, Scope, Send
from .middleware import Middleware, Operations
from .rejections import RejectionMiddleware
from .worker import WorkerLife


class CircuitBreakers(ProcessBound):
    """An extension of ASGI apps: breakers that all workers share, a status, a live page and operators' routes.

    An open circuit whose error leaves the app is answered with 503, a full bulkhead with 429, unless the app handles
    these errors itself. Starlette and FastAPI get a middleware, and the extension in `app.state.circuit_breakers`. For
    any other app, this object is the app to serve: `app = CircuitBreakers(app)`.

    The app's own routes go before those of the extension.

    Args:
        app: The app; None if `init_app` is called later.
        name: Name of the app in its status. By default that of the module that calls this.
        ledger: A ledger or its URL. By default that of $CB_LEDGER or of the app's project, as for `shared=True`. One
            that is not an object of the caller is closed when the app ends.
        defaults: Thresholds of all breakers.
        overrides: Thresholds of single breakers, by name.
        listeners: Listeners of all breakers. Changes of state are logged without one.
        token: Token of the operators, 16 to 200 printable characters. By default $CB_ADMIN_TOKEN. Without one only
            requests from this host may control breakers.
        public: True to show status, page and events to everyone. By default they are shown to requests from this host,
            and to those with the token.
        routes: False for none of the routes but `/metrics`; `operations` can be mounted instead.
        url_prefix: Prefix of the routes other than `/metrics`. By default `/circuit-breakers`, where any route of the
            app goes before ours, one for all paths too; below a prefix given here, ours go first.
        metrics: True for `/metrics`, with the metrics of the breakers, which is shown to everyone. Needs
            prometheus_client.
        panels: Further panels of the live page.
        clock: Nanoseconds of a monotonic clock, for tests.

    Raises:
        ConfigError: A setting breaks a rule.
    """

    def __init__(
        self,
        app: App | None = None,
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
        metrics: bool = False,
        panels: Sequence[Panel] = (),
        clock: Callable[[], int] = monotonic_ns,
    ) -> None:
        if url_prefix is not None:
            check_path("url_prefix", url_prefix)
        caller = calling_namespace()
        #: the breakers of the app
        self.registry = Registry(
            ledger=default_ledger(caller) if ledger is None else open_ledger(ledger, "ledger"),
            defaults=defaults,
            overrides=overrides,
            listeners=listeners,
            clock=clock,
        )
        state = ExtensionState(
            service=name or _module_name(caller),
            registry=self.registry,
            token=admin_token(("token", token)),
            public=is_public(("public", public)),
            panels=list(panels),
            owner=self,
        )
        #: an ASGI app that has the operators' routes alone, to be mounted in another
        self.operations: App = Operations(found := Routes(state))
        self._service = state.service
        self._routes = found if routes else None
        self._prefix = (DEFAULT_PREFIX if url_prefix is None else url_prefix).rstrip("/")
        self._first = url_prefix is not None
        self._metrics = _metrics_route(self.registry) if metrics else None
        self._worker = WorkerLife(self.registry.ledger, closes=not isinstance(ledger, Ledger))
        self._app: App | None = None
        if app is not None:
            self.init_app(app)

    def __repr__(self) -> str:
        return f"<CircuitBreakers of {self._service!r}, {self.registry!r}>"

    def init_app(self, app: App) -> None:
        """Add the breakers to an app. Raises ConfigError.

        A Starlette or FastAPI app that is mounted in another handles its own errors: add the breakers to both.
        """
        if not callable(app):
            raise ConfigError("app", "be an ASGI app", app)
        kept = getattr(app, "state", None)
        if getattr(kept, "circuit_breakers", None) is not None:
            raise ConfigError("app", "have no circuit breakers yet", app)
        if hasattr(app, "build_middleware_stack"):
            self._add_to_starlette(app)
            self._app = app
        else:
            self._app = self.wrap(app)
        if kept is not None:
            kept.circuit_breakers = self

    def wrap(self, app: App) -> App:
        """Return an app with the breakers around another one, for frameworks that have a place for middleware."""
        return Middleware(app, self._worker, self._routes, self._prefix, first=self._first, metrics=self._metrics)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a connection. Raises RuntimeError if there is no app yet."""
        if self._app is None:
            raise RuntimeError("there is no app yet: call init_app first")
        await self._app(scope, receive, send)

    def _add_to_starlette(self, app: Any) -> None:
        """Add a middleware inside of all others, so that responses get their headers, and one around them.

        The latter answers the rejections that they raise.
        """
        app.add_middleware(self.wrap)
        app.user_middleware.append(app.user_middleware.pop(0))
        build = app.build_middleware_stack

        def build_stack() -> App:
            app.add_middleware(RejectionMiddleware)
            stack: App = build()
            return stack

        app.build_middleware_stack = build_stack


def _metrics_route(registry: Registry) -> Route:
    # Not above: prometheus_client decides at import, by the environment that gunicorn's configuration sets.
    with needs("prometheus", "prometheus_client"):
        from .metrics import Metrics
    return Route(Metrics(registry).show)


def _module_name(namespace: Mapping[str, Any]) -> str:
    name = str(namespace.get("__name__"))
    file = namespace.get("__file__")
    return PurePath(file).stem if name == "__main__" and file else name
