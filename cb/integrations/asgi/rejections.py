"""Responses to rejected calls whose errors leave an app."""

from cb.integrations.operations.problem import Problem
from cb.integrations.operations.rejections import find_problem
from cb.integrations.operations.responses import problem_response

from .messages import App, Message, Receive, Scope, ScopeRequest, Send, send_response

#: close code of a WebSocket: try again later
_TRY_AGAIN_LATER = 1013


async def answer_rejections(app: App, scope: Scope, receive: Receive, send: Send) -> None:
    """Run an app for a request, and answer a rejection that it raises, unless its response has begun."""
    begun = False

    async def note(message: Message) -> None:
        nonlocal begun
        begun = True
        await send(message)

    try:
        await app(scope, receive, note)
    except Exception as error:
        problem = None if begun else find_problem(error)
        if problem is None:
            raise
        await send_response(scope, send, problem_response(problem, ScopeRequest(scope).id))


class RejectionMiddleware:
    """Middleware that answers rejections alone.

    Args:
        app: The app.
    """

    def __init__(self, app: App) -> None:
        self._app = app

    def __repr__(self) -> str:
        return f"<RejectionMiddleware around {self._app!r}>"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a connection."""
        handle = {"http": answer_rejections, "websocket": close_rejected}.get(scope["type"])
        await (handle(self._app, scope, receive, send) if handle else self._app(scope, receive, send))


async def close_rejected(app: App, scope: Scope, receive: Receive, send: Send) -> None:
    """Run an app for a WebSocket, and close it for a rejection that the app raises.

    One that is not accepted yet gets the same response as a request, if the server can send one.
    """
    accepted = closed = False

    async def note(message: Message) -> None:
        nonlocal accepted, closed
        accepted |= message["type"] == "websocket.accept"
        closed |= message["type"] in {"websocket.close", "websocket.http.response.start"}
        await send(message)

    try:
        await app(scope, receive, note)
    except Exception as error:
        problem = None if closed else find_problem(error)
        if problem is None:
            raise
        await _close(problem, scope, send, accepted=accepted)


async def _close(problem: Problem, scope: Scope, send: Send, *, accepted: bool) -> None:
    if not accepted and "websocket.http.response" in (scope.get("extensions") or {}):
        await send_response(scope, send, problem_response(problem, ScopeRequest(scope).id))
    else:
        await send({"type": "websocket.close", "code": _TRY_AGAIN_LATER, "reason": problem.code})
