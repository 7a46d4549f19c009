"""The guarantees to clients that place orders and read trades."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from tests.platform.conftest import Platform
from tests.support.waiting import until

ORDER = {"symbol": "AAPL", "quantity": 1, "orderType": "BUY", "price": "150.00"}


def place(platform: Platform, user_id: str, key: str | None, **changes: object) -> requests.Response:
    headers = {"Idempotency-Key": key} if key else {}
    body = {"userId": user_id, **ORDER, **changes}
    return platform.request("POST", "gateway", "/api/v1/trades", json=body, headers=headers)


def pages(platform: Platform, path: str, name: str) -> Iterator[list[dict[str, Any]]]:
    while path:
        answer = platform.get("gateway", path)
        assert answer.status_code == 200, answer.text
        yield answer.json()[name]
        path = answer.links.get("next", {}).get("url", "")
        assert bool(path) == bool(answer.json()["next"])


def test_order_retried_with_its_key_is_the_same_trade(platform: Platform) -> None:
    first = place(platform, "replayer", "k-1")
    again = place(platform, "replayer", '"k-1"', price=150)

    assert (first.status_code, again.status_code) == (201, 201)
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.json() == first.json()
    assert platform.get("portfolio", "/api/v1/portfolio/replayer").json()["positions"][0]["quantity"] == 1


def test_rejection_is_replayed_as_well(platform: Platform) -> None:
    answers = [place(platform, "poor", "k-1", quantity=7_000) for _ in range(2)]

    assert [each.status_code for each in answers] == [409, 409]
    assert [each.json()["code"] for each in answers] == ["insufficient-funds"] * 2
    assert answers[0].json()["tradeId"] == answers[1].json()["tradeId"]
    assert answers[1].headers["Idempotency-Replayed"] == "true"


def test_key_with_another_order_is_refused(platform: Platform) -> None:
    assert place(platform, "reuser", "k-1").status_code == 201

    answer = place(platform, "reuser", "k-1", quantity=2)

    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency-key-reused")


def test_concurrent_retries_of_an_order_are_one_trade(platform: Platform) -> None:
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: place(platform, "hasty", "k-1"), range(12)))

    assert {each.status_code for each in answers} <= {201, 409}
    assert {each.json()["code"] for each in answers if each.status_code == 409} <= {"idempotency-in-progress"}
    assert len({each.json()["tradeId"] for each in answers if each.status_code == 201}) == 1
    assert platform.get("portfolio", "/api/v1/portfolio/hasty").json()["positions"][0]["quantity"] == 1
    assert place(platform, "hasty", "k-1").status_code == 201


def test_order_refused_before_it_was_sent_is_retried_with_its_key(platform: Platform) -> None:
    platform.simulate("portfolio", is_healthy=False)
    until(lambda: platform.trade().status_code == 503, "the portfolio's circuit opens")
    refused = place(platform, "patient", "k-1")
    platform.heal()

    answer = place(platform, "patient", "k-1")

    assert (refused.status_code, refused.json()["code"]) == (503, "circuit-open")
    assert answer.status_code == 201
    assert "Idempotency-Replayed" not in answer.headers
    assert platform.rows("gateway", "SELECT state FROM trades WHERE user_id = 'patient'") == [("FILLED",)]


def test_trade_with_an_unknown_outcome_is_settled_when_the_portfolio_recovers(platform: Platform) -> None:
    platform.simulate("portfolio", is_healthy=False)
    pending = place(platform, "waiting", "k-1")
    assert (pending.status_code, pending.json()["status"]) == (202, "PENDING")
    platform.simulate("portfolio")

    until(
        lambda: platform.get("gateway", pending.headers["Location"]).json()["status"] == "FILLED",
        "the trade is settled",
    )
    assert place(platform, "waiting", "k-1").status_code == 201


@pytest.mark.parametrize("key", ["", "a b", "x" * 256, '"open', "ü"])
def test_invalid_key_is_refused(platform: Platform, key: str) -> None:
    answer = platform.request(
        "POST",
        "gateway",
        "/api/v1/trades",
        json={"userId": "odd", **ORDER},
        headers={"Idempotency-Key": key.encode()},
    )

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid-parameter")
    assert answer.json()["errors"][0]["name"] == "Idempotency-Key"


def test_refusal_by_a_limit_has_the_limit_and_the_value(platform: Platform) -> None:
    answer = place(platform, "bold", None, quantity=100_000)

    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (409, "order-value-limit")
    assert (problem["limit"], problem["value"]) == ("10000000.00", "15000000.00")


def test_trades_of_a_user_are_listed_in_pages(platform: Platform) -> None:
    placed = [place(platform, "lister", None).json()["tradeId"] for _ in range(5)]

    found = list(pages(platform, "/api/v1/trades?userId=lister&limit=2", "trades"))

    assert [len(each) for each in found] == [2, 2, 1]
    assert [trade["tradeId"] for page in found for trade in page] == placed[::-1]


def test_trade_and_its_audit_and_confirmation_are_found(platform: Platform) -> None:
    trade_id = place(platform, "reader", None).json()["tradeId"]
    audit = f"/api/v1/audit/trades?tradeId={trade_id}"
    until(lambda: len(platform.get("gateway", audit).json()["entries"]) == 3, "audit has heard")
    until(lambda: bool(platform.get("gateway", "/api/v1/notifications/reader").json()["notifications"]), "user, too")

    entries = platform.get("gateway", audit).json()["entries"]
    message = platform.get("gateway", "/api/v1/notifications/reader").json()["notifications"][0]

    assert [(each["seq"], each["state"]) for each in entries] == [(1, "RECEIVED"), (2, "APPLYING"), (3, "FILLED")]
    assert {key: message[key] for key in ("kind", "text", "tradeId")} == {
        "kind": "trade",
        "text": "BUY 1 AAPL at 150.00 is filled",
        "tradeId": trade_id,
    }


def test_audit_verifies_and_its_head_is_a_metric(platform: Platform) -> None:
    until(platform.all_told, "audit has all trades: the log grows no more")
    seen = platform.get("gateway", "/api/v1/audit/verify").json()

    assert (seen["valid"], seen["brokenAt"], len(seen["head"])) == (True, None, 64)
    metrics = platform.get("gateway", "/metrics").text.splitlines()
    assert f"gateway_audit_entries {float(seen['entries'])}" in metrics
    shown = next(float(line.split()[1]) for line in metrics if line.startswith("gateway_audit_head "))
    assert int(shown) == int(seen["head"][:13], 16)


def test_operators_are_notified_of_an_opened_circuit(platform: Platform) -> None:
    platform.simulate("market-data", is_healthy=False)
    until(lambda: not platform.trade().ok and platform.circuits()["market-data"] == "OPEN", "the circuit opens")

    def told() -> bool:
        newest = platform.get("gateway", "/api/v1/notifications?limit=1").json()["notifications"]
        return bool(newest) and newest[0]["text"].startswith("circuit market-data went from CLOSED to OPEN")

    until(told, "operators have heard")


@pytest.mark.parametrize(
    "path",
    [
        "trades",
        "trades?userId=a%20b",
        "trades?userId=ann&limit=0",
        "trades?userId=ann&limit=201",
        "trades?userId=ann&limit=1e2",
        "trades?userId=ann&after=x",
        "trades?userId=ann&after=",
        "trades?userId=ann&after=1767225600000000",
        "trades?userId=ann&after=1767225600000000.",
        "trades?userId=ann&after=17672256000000000.a",  # beyond year 9999
        "trades?userId=ann&after=-1.a",
        "trades?userId=ann&after=1.a%00",
        "trades?userId=ann&after=%D9%A1.a",  # a non-ASCII digit
        "trades?userId=ann&sort=price",
        "trades?userId=ann&userId=bob",
        "audit/trades?after=-1",
        "audit/trades?after=1000000000000000000",
        "audit/trades?limit=01",
        "audit/trades?tradeId=..",
        "notifications/ann?after=null",
        "notifications/a%20b",
    ],
)
def test_invalid_query_is_refused_with_the_rule(platform: Platform, path: str) -> None:
    answer = platform.get("gateway", f"/api/v1/{path}")

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid-parameter"), answer.text
    assert answer.json()["errors"][0]["name"]
