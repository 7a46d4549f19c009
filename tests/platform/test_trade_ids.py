"""A trade id is booked once, for any number of requests to any worker."""

from concurrent.futures import ThreadPoolExecutor

from tests.platform.conftest import Platform


def test_duplicates_of_one_trade_at_the_same_time_are_booked_once(platform: Platform) -> None:
    body = {"tradeId": "duplicate-1", "symbol": "AAPL", "quantity": 3, "orderType": "BUY", "price": "150.0001"}

    with ThreadPoolExecutor(16) as pool:
        sent = [
            pool.submit(platform.post, "portfolio", "/api/v1/portfolio/duplicate/positions", body) for _ in range(32)
        ]
        answers = [each.result() for each in sent]

    assert {(answer.status_code, answer.text) for answer in answers} == {(201, answers[0].text)}
    owned = platform.get("portfolio", "/api/v1/portfolio/duplicate").json()
    assert owned["positions"] == [{"symbol": "AAPL", "quantity": 3}]
    assert owned["cash"] == "999549.9997"
    entries = platform.rows("portfolio", "SELECT sum(amount), count(*) FROM entries WHERE trade_id = 'duplicate-1'")
    assert entries == [(0, 4)]


def test_trade_id_of_another_order_is_refused(platform: Platform) -> None:
    body = {"tradeId": "reused-1", "symbol": "AAPL", "quantity": 3, "orderType": "BUY", "price": "150"}
    path = "/api/v1/portfolio/reuser/positions"
    assert platform.post("portfolio", path, body).status_code == 201

    answer = platform.post("portfolio", path, {**body, "quantity": 4})

    assert (answer.status_code, answer.json()["code"]) == (422, "trade-id-reused")


def test_concurrent_trades_of_a_user_never_overdraw_the_account(platform: Platform) -> None:
    with ThreadPoolExecutor(8) as pool:
        sent = [pool.submit(platform.trade, userId="spender", quantity=1_000) for _ in range(12)]
        answers = [each.result() for each in sent]

    assert sorted(answer.status_code for answer in answers) == [201] * 6 + [409] * 6
    rejected = next(answer.json() for answer in answers if answer.status_code == 409)
    assert (rejected["code"], rejected["tradeStatus"]) == ("insufficient-funds", "REJECTED")
    stored = platform.get("gateway", f"/api/v1/trades/{rejected['tradeId']}").json()
    assert (stored["status"], stored["code"]) == ("REJECTED", "insufficient-funds")
    assert platform.get("portfolio", "/api/v1/portfolio/spender").json()["cash"] == "100000.00"


def test_gateway_and_portfolio_agree_on_every_trade(platform: Platform) -> None:
    for order_type in ("BUY", "SELL", "SELL"):
        platform.trade(userId="agreeing", orderType=order_type)

    known = "SELECT trade_id, {} FROM trades WHERE user_id = 'agreeing' ORDER BY 1"
    told = platform.rows("gateway", known.format("state"))

    assert told == platform.rows("portfolio", known.format("outcome"))
    assert sorted(state for _, state in told) == ["FILLED", "FILLED", "REJECTED"]
