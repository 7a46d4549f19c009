"""`CircuitBreakers(app)` in apps of Starlette and FastAPI."""

import asyncio
from collections.abc import Callable
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI, HTTPException
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from cb import Bulkhead, CircuitBreaker, CircuitError, CircuitOpenError, ConfigError, State
from cb.integrations.asgi import CircuitBreakers
from tests.support.asgi import Client
from tests.support.asgi_shop import OPEN, REASON, STATUS

pytestmark = pytest.mark.usefixtures("state")

Clients = Callable[..., Client]


def opened(breakers: CircuitBreakers) -> CircuitBreaker:
    vendor = breakers.registry.get("vendor")
    vendor.control.force_open(reason="a drill", author="test")
    return vendor


def a_fastapi_app(breakers: CircuitBreakers, app: FastAPI) -> None:
    vendor = breakers.registry.get("vendor", ignored=(HTTPException,))

    def get_vendor() -> CircuitBreaker:
        return breakers.registry.get("vendor")

    @app.get("/decorated")
    @vendor
    async def decorated(fail: bool = False) -> dict[str, int]:
        if fail:
            raise TimeoutError
        return {"price": 150}

    @app.get("/threaded")
    @vendor
    def threaded() -> dict[str, int]:
        return {"price": 150}

    @app.get("/injected")
    async def injected(breaker: Annotated[CircuitBreaker, Depends(get_vendor)]) -> dict[str, int]:
        return await breaker.acall(decorated.__wrapped__)

    @app.get("/state")
    async def state(request: Request) -> dict[str, str]:
        async with request.app.state.circuit_breakers.registry.get("vendor"):
            return {}

    @app.get("/absent")
    @vendor
    async def absent() -> None:
        raise HTTPException(404, "mine")


def test_fastapi_app_opens_in_each_of_its_idioms(client_of: Clients) -> None:
    app = FastAPI()
    breakers = CircuitBreakers(app)
    a_fastapi_app(breakers, app)
    client = client_of(app)
    assert client.get("/decorated").json == client.get("/threaded").json == client.get("/injected").json
    for _ in range(20):
        assert client.get("/absent").json == {"detail": "mine"}
    assert breakers.registry.get("vendor").state is State.CLOSED
    for _ in range(100):
        if breakers.registry.get("vendor").state is State.OPEN:
            break
        with pytest.raises(TimeoutError):
            client.get("/decorated?fail=1")
    for path in ("/decorated", "/threaded", "/injected", "/state", "/absent"):
        answer = client.get(path)
        assert (answer.status, answer.json["breaker"]) == (503, "vendor")
        assert int(answer.headers["retry-after"]) in range(1, 61)
    assert client.get("/openapi.json").json["paths"].keys() == {
        "/decorated",
        "/threaded",
        "/injected",
        "/state",
        "/absent",
    }
    assert client.post("/circuit-breakers/vendor/reset", REASON).status == 200
    assert client.get("/decorated").status == 200


@pytest.mark.parametrize("kind", [CircuitOpenError, CircuitError])
def test_handler_of_the_app_for_our_errors_goes_before_ours_and_one_for_all_errors_does_not(
    client_of: Clients, kind: type[Exception]
) -> None:
    app = FastAPI()
    a_fastapi_app(breakers := CircuitBreakers(app), app)
    opened(breakers)

    async def handle(request: Request, error: Exception) -> PlainTextResponse:
        return PlainTextResponse("mine", 418)

    app.add_exception_handler(Exception, handle)
    assert client_of(app).get("/decorated").status == 503
    other = FastAPI()
    a_fastapi_app(breakers := CircuitBreakers(other, ledger=breakers.registry.ledger), other)
    other.add_exception_handler(kind, handle)
    assert client_of(other).get("/decorated").text == "mine"


@pytest.mark.parametrize("first", [True, False])
def test_middleware_of_the_app_sees_the_responses_and_its_own_rejections_are_answered(
    client_of: Clients, first: bool
) -> None:
    app = FastAPI()
    breakers = CircuitBreakers(app) if first else None

    async def require_user(request: Request, proceed: Any) -> Any:
        if request.url.path == "/user":
            raise CircuitOpenError("users", 3)
        response = await proceed(request)
        response.headers["X-Mine"] = "seen"
        return response

    app.add_middleware(BaseHTTPMiddleware, dispatch=require_user)
    app.add_middleware(CORSMiddleware, allow_origins=["*"])
    breakers = breakers or CircuitBreakers(app)
    a_fastapi_app(breakers, app)
    opened(breakers)
    client = client_of(app)
    refused = client.get("/decorated", {"Origin": "https://shop.example"})
    assert (refused.status, refused.headers["x-mine"], refused.headers["access-control-allow-origin"]) == (
        503,
        "seen",
        "*",
    )
    assert client.get(STATUS).headers["x-mine"] == "seen"
    assert (client.get("/user").status, client.get("/user").json["breaker"]) == (503, "users")


def test_app_that_is_mounted_in_another_gets_the_breakers_too(client_of: Clients) -> None:
    breakers = CircuitBreakers(ledger="memory://")
    inner, outer = FastAPI(), FastAPI()
    for app in (inner, outer):
        breakers.init_app(app)
        a_fastapi_app(breakers, app)
    outer.mount("/v2", inner)
    opened(breakers)
    client = client_of(outer)
    for path in ("/v2/decorated", "/decorated"):
        assert client.get(path).status == 503
    assert client.get(f"/v2{STATUS}").json["breakers"].keys() == {"vendor"}


def test_routes_that_a_starlette_app_has_go_before_ours_and_operations_can_be_mounted(client_of: Clients) -> None:
    async def mine(request: Request) -> PlainTextResponse:
        return PlainTextResponse(f"mine {request.path_params}")

    breakers = CircuitBreakers(ledger="memory://")
    breakers.registry.get("vendor")
    app = Starlette(
        routes=[Route(STATUS, mine), Mount("/ops", breakers.operations), Route("/{path:path}", mine, methods=["PUT"])],
        middleware=[Middleware(CORSMiddleware)],
    )
    breakers.init_app(app)
    client = client_of(app)
    assert client.get(STATUS).text.startswith("mine")
    assert client.get("/ops/status").json["breakers"].keys() == {"vendor"}
    assert client.post("/ops/vendor/force-open", REASON).status == 200
    assert client.post(OPEN.replace("force-open", "reset"), REASON).status == 200  # its PUT for all paths has no POST
    assert client.send("PUT", OPEN).text.startswith("mine")


def test_second_extension_of_one_app_is_refused() -> None:
    app = FastAPI()
    CircuitBreakers(app, ledger="memory://")
    with pytest.raises(ConfigError, match="app must have no circuit breakers yet"):
        CircuitBreakers(app, ledger="memory://")
    assert len(app.user_middleware) == 1


def test_rejections_of_tasks_and_of_a_full_bulkhead_are_answered(client_of: Clients) -> None:
    app = FastAPI()
    breakers = CircuitBreakers(app)
    crowded = Bulkhead(breakers.registry.get("crowded"), limit=1)

    @app.get("/crowd")
    async def crowd() -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(2):
                group.create_task(crowded.acall(asyncio.sleep, 0.01))

    answer = client_of(app).get("/crowd")
    assert (answer.status, answer.json["code"], answer.headers["retry-after"]) == (429, "bulkhead-full", "1")


def test_lifespan_of_the_app_runs_between_joining_and_closing(client_of: Clients) -> None:
    seen: list[int] = []

    async def lifespan(app: Any) -> Any:
        seen.append(app.state.circuit_breakers.registry.ledger.workers())
        yield
        seen.append(app.state.circuit_breakers.registry.ledger.workers())

    app = FastAPI(lifespan=lifespan)
    CircuitBreakers(app)
    with client_of(app).lifespan() as sent:
        assert sent[0]["type"] == "lifespan.startup.complete"
    assert seen == [1, 1]
