from decimal import Decimal
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from marketdata import create_app
from marketdata.market import BASE_PRICES, Market

PRICES = "/api/v1/prices"
CONFIG = Path(__file__).resolve().parents[2] / "config" / "config.yaml"


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FlaskClient:
    monkeypatch.setenv("CB_CONFIG", str(CONFIG))
    monkeypatch.setenv("CB_STATE_DIR", str(tmp_path / "state"))
    return create_app().test_client()


def test_price_is_the_same_for_the_same_symbol_time_and_seed() -> None:
    assert Market(1).quote("AAPL", 1e9) == Market(1).quote("AAPL", 1e9)
    assert Market(1).quote("AAPL", 1e9) != Market(2).quote("AAPL", 1e9)


@pytest.mark.parametrize("symbol", BASE_PRICES)
def test_price_stays_within_one_percent_of_its_base_and_moves_within_a_second(symbol: str) -> None:
    prices = [quote.price for second in range(3000) if (quote := Market(1).quote(symbol, 1.7e9 + second))]
    base = BASE_PRICES[symbol]
    assert all(abs(price - base) <= base * Decimal("0.01") and price == round(price, 2) for price in prices)
    assert len(set(prices)) > 50
    assert min(prices) < base < max(prices)


def test_quote_is_money_in_text_with_its_time(client: FlaskClient) -> None:
    answer = client.get(f"{PRICES}/AAPL")
    assert answer.json is not None
    assert answer.status_code == 200
    assert (answer.json["symbol"], answer.json["currency"]) == ("AAPL", "USD")
    assert Decimal("148.50") <= Decimal(answer.json["price"]) <= Decimal("151.50")
    assert isinstance(answer.json["price"], str)
    assert answer.json["time"].endswith("Z")


@pytest.mark.parametrize(("symbol", "status"), [("ZZZZ", 404), ("aapl", 422), ("..", 422), ("A" * 13, 422)])
def test_unknown_or_invalid_symbol_is_refused(client: FlaskClient, symbol: str, status: int) -> None:
    answer = client.get(f"{PRICES}/{symbol}")
    assert (answer.status_code, answer.mimetype) == (status, "application/problem+json")


def test_batch_returns_prices_of_one_moment_and_lists_unknown_symbols(client: FlaskClient) -> None:
    answer = client.post(f"{PRICES}/batch", json={"symbols": ["MSFT", "ZZZZ", "AAPL", "MSFT"]})
    assert answer.json is not None
    assert [quote["symbol"] for quote in answer.json["prices"]] == ["MSFT", "AAPL"]
    assert len({quote["time"] for quote in answer.json["prices"]}) == 1
    assert answer.json["unknown"] == ["ZZZZ"]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/symbols"),
        ({"symbols": []}, "/symbols"),
        ({"symbols": ["AAPL"] * 101}, "/symbols"),
        ({"symbols": "AAPL"}, "/symbols"),
        ({"symbols": ["AAPL", ".."]}, "/symbols/1"),
        ({"symbols": [None]}, "/symbols/0"),
        ({"symbols": ["AAPL"], "date": 1}, "/date"),
    ],
)
def test_invalid_batch_is_refused_by_field_and_rule(client: FlaskClient, body: object, pointer: str) -> None:
    answer = client.post(f"{PRICES}/batch", json=body)
    assert answer.json is not None
    assert answer.status_code == 422
    assert answer.json["errors"][0]["pointer"] == pointer
    assert answer.json["errors"][0]["detail"].startswith("must ")


def test_unhealthy_market_fails_its_callers_and_its_health_until_it_is_restored(client: FlaskClient) -> None:
    simulate = "/api/v1/simulate/failure"
    client.post(simulate, json={"failure_rate": 1.0, "is_healthy": False})
    assert [client.get(path).status_code for path in (f"{PRICES}/AAPL", "/api/v1/health")] == [503, 503]
    assert client.post(f"{PRICES}/batch", json={"symbols": ["AAPL"]}).status_code == 503
    assert client.get("/api/v1/health/live").status_code == 200
    client.post(simulate, json={"failure_rate": 0.0, "is_healthy": True})
    assert [client.get(path).status_code for path in (f"{PRICES}/AAPL", "/api/v1/health")] == [200, 200]
