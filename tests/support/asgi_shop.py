"""A plain ASGI app with a failing dependency, for the extension."""

from typing import Any

from cb import BulkheadFullError, CircuitOpenError, RateLimitedError, State
from cb.errors import LedgerBusyError, RejectedError
from cb.integrations.asgi import CircuitBreakers

STATUS = "/circuit-breakers/status"
OPEN = "/circuit-breakers/vendor/force-open"
REASON = {"reason": "the vendor migrates"}
#: errors that leave the app, by path
ERRORS: dict[str, Exception] = {
    "/open": CircuitOpenError("vendor", 4.2),
    "/held": CircuitOpenError("vendor", None),
    "/full": BulkheadFullError("vendor", 3),
    "/rate": RateLimitedError("partner", 0.1),
    "/busy": LedgerBusyError("memory", "was locked"),
    "/other": RejectedError("vendor", 7),
    "/group": ExceptionGroup("tasks", [CircuitOpenError("a", 2), ExceptionGroup("more", [CircuitOpenError("b", 9)])]),
    "/mixed": ExceptionGroup("tasks", [CircuitOpenError("a", 2), ValueError("a bug")]),
    "/bug": ValueError("a bug"),
}


class Shop:
    """An app. It answers paths of `ERRORS` with an error, `own` with its own response, and others with 404."""

    def __init__(self) -> None:
        self.own: set[str] = set()
        self.status_of_others = 404
        self.reads_bodies = False
        self.begins = False
        self.scopes: list[dict[str, Any]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        if scope["type"] == "lifespan":
            for _ in range(2):
                message = await receive()
                await send({"type": f"{message['type']}.complete"})
            return
        kind = "http.response" if scope["type"] == "http" else "websocket"
        while self.reads_bodies and (await receive()).get("more_body"):
            pass
        if self.begins:
            start = {"status": 200, "headers": []} if kind == "http.response" else {}
            await send({"type": f"{kind}.start" if start else "websocket.accept", **start})
        if scope["path"] in ERRORS:
            raise ERRORS[scope["path"]]
        found = scope["path"] in self.own
        await send({"type": f"{kind}.start", "status": 200 if found else self.status_of_others, "headers": []})
        await send({"type": f"{kind}.body", "body": b"mine" if found else b"nothing"})


def state_of(breakers: CircuitBreakers) -> State:
    """Return the state of the breaker `vendor`."""
    return breakers.registry.get("vendor").state
