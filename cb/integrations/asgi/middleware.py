"""ASGI middleware: the operators' routes, responses to rejected calls, and the lifespan of a worker."""

from functools import partial
from http import HTTPStatus

from cb.background.event_loop import in_thread
from cb.integrations.operations.problem import Problem
from cb.integrations.operations.responses import Response
from cb.integrations.operations.routes import Route, Routes
from cb.log import Log

from .messages import App, Receive, Scope, ScopeRequest, Send, receive_body, route_path, send_response
from .own_routes import Attempt
from .rejections import answer_rejections, close_rejected
from .worker import WorkerLife

log = Log(__name__)

_METRICS_PATH = "/metrics"


class Middleware:
    """Middleware for one app.

    Args:
        app: The app.
        worker: Joins the ledger.
        routes: Routes of the operators, None for none.
        prefix: Prefix of the routes, without a slash at its end.
        first: True if the routes go before those of the app.
        metrics: Route of the metrics, None for none.
    """

    def __init__(
        self, app: App, worker: WorkerLife, routes: Routes | None, prefix: str, *, first: bool, metrics: Route | None
    ) -> None:
        self._app = app
        self._worker = worker
        self._routes = routes
        self._prefix = prefix
        self._first = first
        self._metrics = metrics
        self._reported = False

    def __repr__(self) -> str:
        return f"<Middleware around {self._app!r}>"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a connection."""
        kind = scope["type"]
        if kind == "lifespan":
            await self._worker.live(self._app, scope, receive, send)
            return
        if kind in {"http", "websocket"}:
            await self._worker.join()
        if kind == "http":
            await self._answer(scope, receive, send)
        elif kind == "websocket":
            await close_rejected(self._app, scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        first, route = self._find(scope)
        app = partial(answer_rejections, self._app)
        if route is None:
            await app(scope, receive, send)
        elif first:
            await answer(route, scope, receive, send)
        else:
            attempt = Attempt(receive, send)
            if not await attempt.run(app, scope):
                await answer(route, scope, attempt.receive, send)
            elif attempt.status < HTTPStatus.BAD_REQUEST and not self._reported:
                self._reported = True
                log.warning(
                    "%s is answered by this app's own route: url_prefix=... is where the routes of the breakers go",
                    scope["path"],
                )

    def _find(self, scope: Scope) -> tuple[bool, Route | None]:
        """Return the route of a request, None if it is the app's, and whether it goes before those of the app."""
        path = route_path(scope)
        if self._metrics is not None and path == _METRICS_PATH and scope["method"] in {"GET", "HEAD"}:
            return False, self._metrics
        if self._routes is None or not f"{path}/".startswith(f"{self._prefix}/"):
            return False, None
        return self._first, self._routes.find(scope["method"], path[len(self._prefix) :])


class Operations:
    """An ASGI app that has the operators' routes alone, to be mounted in another.

    Args:
        routes: The routes.
    """

    def __init__(self, routes: Routes) -> None:
        self._routes = routes

    def __repr__(self) -> str:
        return f"<Operations {self._routes!r}>"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "http":
            route = self._routes.find(scope["method"], route_path(scope))
            await answer(route or Route(_not_found), scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})


async def answer(route: Route, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a request by a route, whose view runs in a thread: it waits for locks and files."""
    request, body = ScopeRequest(scope), b""
    request_id = request.id
    response = route.refusal(request, request_id)
    if response is None:
        if route.takes_body:
            received = await receive_body(receive)
            if received is None:  # the client has left
                return
            body = received
        response = await in_thread(partial(route.respond, request, body, request_id))
    await send_response(scope, send, response)


def _not_found(*_: object) -> Response:
    raise Problem(404, "not-found", "there is nothing of the circuit breakers at this path")
