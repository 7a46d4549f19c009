"""Invalid input on every POST route: refused by field and rule, never a 500, nothing changed."""

import http.client
import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.platform.conftest import PACKAGES, Platform
from tests.support.waiting import until

ORDER = {"userId": "user123", "symbol": "AAPL", "quantity": 1, "orderType": "BUY", "price": 150.00}
POSITION = {"tradeId": "bad-1", "symbol": "AAPL", "quantity": 1, "orderType": "BUY", "price": 150.00}
SIMULATION = {"failure_rate": 0.5, "is_healthy": True, "response_time_ms": 0}


@dataclass(frozen=True)
class Route:
    service: str
    path: str
    #: a valid body
    body: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.service}{self.path.removeprefix('/api/v1')}"


TRADES = Route("gateway", "/api/v1/trades", ORDER)
POSITIONS = Route("portfolio", "/api/v1/portfolio/user123/positions", POSITION)
BATCH = Route("market-data", "/api/v1/prices/batch", {"symbols": ["AAPL"]})
SIMULATIONS = [
    Route(service, f"/api/v1{part}/simulate/failure", SIMULATION)
    for service, part in [
        ("market-data", ""),
        ("portfolio", ""),
        ("gateway", "/risk"),
        ("gateway", "/notification"),
        ("gateway", "/audit"),
    ]
]
ROUTES = [TRADES, POSITIONS, BATCH, *SIMULATIONS]

# Bodies that no route accepts: text, content type, status, and a word of the rule.
UNREADABLE = {
    "no-json": ("quantity=1", "application/x-www-form-urlencoded", 415, "application/json"),
    "no-type": ("{}", None, 415, "application/json"),
    "empty": ("", "application/json", 400, "JSON"),
    "cut": ('{"a": 1', "application/json", 400, "JSON"),
    "nan": ('{"a": NaN}', "application/json", 400, "NaN"),
    "infinity": ('{"a": -Infinity}', "application/json", 400, "Infinity"),
    "not-utf-8": (b'{"a": "\xff"}', "application/json", 400, "JSON"),
    "nested": ("[" * 30_000, "application/json", 400, "nested"),
    "digits": ('{"a": ' + "9" * 5_000 + "}", "application/json", 400, "JSON"),
    "twice": ('{"a": 1, "a": 1}', "application/json", 400, "twice"),
    "too-large": ('{"a": "' + "x" * 65_536 + '"}', "application/json", 413, "65536 bytes"),
    "array": ("[]", "application/json", 422, "must be an object"),
    "null": ("null", "application/json", 422, "must"),
    "number-bomb": ('{"a": 1e99999999}', "application/json", 422, "must not be present: no such field is known"),
}

# By field: invalid values, each with a word of the rule that the response must contain.
IDS = ["..", "", "a" * 65, "a/b", "a b", "ann\n", "ä", "a?void=1", 1, None, ["a"]]
QUANTITIES = [0, -1, 1.5, "10", True, None, [], 1_000_001, 1e300, "NaN"]
AMOUNTS = [0, -1, "-0.0001", 1.00001, "1.00001", "1e2", "", "abc", True, None, [], 10_000_000_000, 1e300]
WRONG: dict[str, list[Any]] = {
    "userId": IDS,
    "tradeId": IDS,
    "symbol": ["aapl", "", "..", "A" * 13, "AAPL\n", "A B", 1, None, ["AAPL"]],
    "quantity": QUANTITIES,
    "orderType": ["HOLD", "buy", "", 1, None, ["BUY"], {"BUY": 1}],
    "price": AMOUNTS,
    "symbols": [[], ["aapl"], [None], "AAPL", None, {}, ["AAPL"] * 101],
    "failure_rate": [-0.1, 1.1, "0.5", True, None],
    "is_healthy": [0, "true", None],
    "response_time_ms": [-1, 60_001, 0.5, "1", True, None],
}
OPTIONAL = set(SIMULATION)


@pytest.fixture(scope="module", autouse=True)
def nothing_changes(running: Platform) -> Iterator[None]:
    running.heal()
    until(running.all_alarmed, "operators have heard of the circuits that were closed")
    before = state(running)
    yield
    assert state(running) == before


def state(platform: Platform) -> list[object]:
    found: list[object] = []
    for service in ("gateway", "portfolio"):
        connection = sqlite3.connect(platform.database(service))
        # The gateway verifies its audit log once a minute and stores the time.
        found.append([line for line in connection.iterdump() if "audit_checks" not in line])
        connection.close()
    return found + [platform.get(route.service, route.path).json() for route in SIMULATIONS]


@pytest.fixture(autouse=True)
def no_error_of_ours(running: Platform) -> Iterator[None]:
    before = {name: running.log(name).stat().st_size for name in PACKAGES}
    yield
    news = "".join(running.log(name).read_bytes()[before[name] :].decode() for name in PACKAGES)
    assert "Traceback" not in news and '"ERROR"' not in news, news


def problem(answer: Any, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body["status"] == status and body["request_id"] == answer.headers["X-Request-ID"]
    return body


@pytest.mark.parametrize("name", UNREADABLE)
@pytest.mark.parametrize("route", ROUTES, ids=str)
def test_body_other_than_a_json_object_is_refused_with_the_rule(running: Platform, route: Route, name: str) -> None:
    text, kind, status, rule = UNREADABLE[name]
    headers = {"Content-Type": kind} if kind else {}

    answer = running.request("POST", route.service, route.path, data=text, headers=headers)

    body = problem(answer, status)
    assert rule in json.dumps([body["detail"], body.get("errors")])


@pytest.mark.parametrize("route", ROUTES, ids=str)
def test_unknown_field_is_refused_by_name(running: Platform, route: Route) -> None:
    answer = running.post(route.service, route.path, {**route.body, "status": "FILLED"})

    (error,) = problem(answer, 422)["errors"]
    assert error == {"in": "body", "pointer": "/status", "detail": "must not be present: no such field is known"}


@pytest.mark.parametrize(
    ("route", "name"), [(route, name) for route in ROUTES for name in route.body if name not in OPTIONAL], ids=str
)
def test_missing_field_is_reported_by_name(running: Platform, route: Route, name: str) -> None:
    body = {key: value for key, value in route.body.items() if key != name}

    answer = running.post(route.service, route.path, body)

    (error,) = problem(answer, 422)["errors"]
    assert error == {"in": "body", "pointer": f"/{name}", "detail": "must be present"}


@pytest.mark.parametrize(("route", "name"), [(route, name) for route in ROUTES for name in route.body], ids=str)
def test_field_with_a_wrong_value_is_refused_by_name_and_rule(running: Platform, route: Route, name: str) -> None:
    for value in WRONG[name]:
        answer = running.post(route.service, route.path, {**route.body, name: value})

        errors = problem(answer, 422)["errors"]
        assert all(error["pointer"].startswith(f"/{name}") for error in errors), value
        assert all(error["detail"].startswith("must ") for error in errors), (value, errors)


@pytest.mark.parametrize("number", ["1e99999999", "-1e99999999", "1e-99999999", "1e999999999999999999999", "9" * 4_000])
@pytest.mark.parametrize(
    ("route", "name"),
    [(TRADES, "quantity"), (TRADES, "price"), (POSITIONS, "price"), (SIMULATIONS[0], "failure_rate")],
    ids=str,
)
def test_huge_number_is_refused_at_once(running: Platform, route: Route, name: str, number: str) -> None:
    text = json.dumps({**route.body, name: "number"}).replace('"number"', number)

    answer = running.request("POST", route.service, route.path, data=text, headers={"Content-Type": "application/json"})

    assert answer.status_code in (400, 422) or (name == "failure_rate" and number == "1e-99999999"), answer.text
    assert answer.elapsed.total_seconds() < 1


@pytest.mark.parametrize("number", ["NaN", "-Infinity"])
def test_nan_and_infinity_are_refused_by_the_name_of_the_field(running: Platform, number: str) -> None:
    text = json.dumps({**ORDER, "price": "number"}).replace('"number"', number)

    answer = running.request("POST", "gateway", TRADES.path, data=text, headers={"Content-Type": "application/json"})

    (error,) = problem(answer, 400)["errors"]
    assert error["pointer"] == "/price" and error["detail"].startswith("must be ")


def test_unquoted_symbol_is_unknown_by_name(running: Platform) -> None:
    body = problem(running.trade(symbol="NOPE"), 404)

    assert body["code"] == "unknown-symbol"
    assert body["errors"] == [{"in": "body", "pointer": "/symbol", "detail": "must be a symbol that is quoted"}]


@pytest.mark.parametrize("user", ["..", "%2e%2e", "%2E%2E", "a%0d%0ab", "a%3Fvoid=1", "%C3%A4", "a" * 65])
@pytest.mark.parametrize(
    ("method", "service", "path"),
    [
        ("POST", "portfolio", "/api/v1/portfolio/{}/positions"),
        ("GET", "portfolio", "/api/v1/portfolio/{}"),
        ("GET", "gateway", "/api/v1/portfolio/{}"),
        ("GET", "gateway", "/api/v1/trades/{}"),
        ("GET", "gateway", "/api/v1/market-data/{}"),
        ("GET", "market-data", "/api/v1/prices/{}"),
    ],
)
def test_malicious_id_in_a_path_is_refused(
    running: Platform, *, method: str, service: str, path: str, user: str
) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", running.ports[service], timeout=10)
    body = json.dumps(POSITION) if method == "POST" else None
    connection.request(
        method, path.format(user), body, {"Content-Type": "application/json"}
    )  # unchanged, unlike with requests
    answer = connection.getresponse()
    told = json.load(answer)
    connection.close()

    assert (answer.status, told["code"]) == (422, "invalid-parameter")
    (error,) = told["errors"]
    assert error["in"] == "path" and error["name"] in ("userId", "tradeId", "symbol")
    assert error["detail"].startswith("must be ")


@pytest.mark.parametrize("route", ROUTES, ids=str)
def test_other_method_is_405_with_allow(running: Platform, route: Route) -> None:
    answer = running.request("DELETE", route.service, route.path)

    problem(answer, 405)
    assert "POST" in answer.headers["Allow"]


@pytest.mark.parametrize("path", ["/api/v1/trades/nothing", "/api/v1/portfolio/nobody", "/nothing"])
def test_unknown_resource_is_404(running: Platform, path: str) -> None:
    problem(running.get("gateway", path), 404)


@pytest.mark.parametrize("price", [100, 200])
def test_order_beyond_a_limit_is_refused_with_the_limit(running: Platform, price: int) -> None:
    body = problem(running.trade(price=price), 409)

    assert body["code"] == "price-out-of-band"
    assert body["detail"].startswith("price must be from 1") and "5.000%" in body["detail"]
