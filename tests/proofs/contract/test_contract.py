"""The services, held against their documents."""

from typing import Any

import pytest

from tests.platform.conftest import PACKAGES, Platform
from tests.proofs.contract.run import TOKEN, run
from tests.proofs.contract.schema import Contract

ORDER = {"userId": "contract", "symbol": "AAPL", "quantity": 1, "orderType": "BUY", "price": 150}
POSITION = {"tradeId": "c-1", "symbol": "AAPL", "quantity": 1, "orderType": "BUY", "price": 150}
SERVED = "/api/v1/circuit-breaker"
COMMON = (
    ("readHealth", 200, "GET", "/api/v1/health", None),
    ("readLiveness", 200, "GET", "/api/v1/health/live", None),
    ("readReadiness", 200, "GET", "/api/v1/health/ready", None),
    ("readStatus", 200, "GET", f"{SERVED}/status", None),
    ("listEvents", 200, "GET", f"{SERVED}/events", None),
    ("listEvents", 422, "GET", f"{SERVED}/events?limit=-1", None),
    ("resetBreaker", 404, "POST", f"{SERVED}/nobodys/reset", {"reason": "a test"}),
    ("resetNamedBreaker", 404, "POST", f"{SERVED}/reset?name=http://nobody", {"reason": "a test"}),
    ("resetNamedBreaker", 422, "POST", f"{SERVED}/reset", {"reason": "a test"}),
    ("showDashboard", 200, "GET", "/dashboard", None),
    ("readDashboardFile", 200, "GET", "/dashboard/page.js", None),
    ("readDashboardFile", 404, "GET", "/dashboard/nothing", None),
    ("readDashboardData", 200, "GET", "/dashboard/data", None),
    ("readMetrics", 200, "GET", "/metrics", None),
    ("readContract", 200, "GET", "/openapi.json", None),
    ("showDocs", 200, "GET", "/docs", None),
    ("readDocsFile", 200, "GET", "/docs/swagger-ui.css", None),
)
OWN = {
    "gateway": (
        ("placeTrade", 201, "POST", "/api/v1/trades", ORDER),
        ("placeTrade", 404, "POST", "/api/v1/trades", ORDER | {"symbol": "NOPE"}),
        ("placeTrade", 409, "POST", "/api/v1/trades", ORDER | {"price": 1}),
        ("placeTrade", 409, "POST", "/api/v1/trades", ORDER | {"orderType": "SELL", "quantity": 999}),
        ("placeTrade", 422, "POST", "/api/v1/trades", ORDER | {"price": "1e3"}),
        ("placeTrade", 415, "POST", "/api/v1/trades", None),
        ("listTrades", 200, "GET", "/api/v1/trades?userId=contract&limit=1", None),
        ("readTrade", 404, "GET", "/api/v1/trades/nothing", None),
        ("listAudit", 200, "GET", "/api/v1/audit/trades?limit=2", None),
        ("verifyAudit", 200, "GET", "/api/v1/audit/verify", None),
        ("listNotifications", 200, "GET", "/api/v1/notifications/contract", None),
        ("listAlerts", 200, "GET", "/api/v1/notifications", None),
        ("readPortfolio", 200, "GET", "/api/v1/portfolio/contract", None),
        ("readMarketData", 200, "GET", "/api/v1/market-data/AAPL", None),
        ("simulateFailureRisk", 200, "POST", "/api/v1/risk/simulate/failure", {"is_healthy": False}),
        ("placeTrade", 503, "POST", "/api/v1/trades", ORDER),
        ("simulateFailureRisk", 200, "POST", "/api/v1/risk/simulate/failure", {}),
        ("disableBreaker", 200, "POST", f"{SERVED}/risk/disable", {"reason": "a test", "expires_in": "5m"}),
        ("resetBreaker", 200, "POST", f"{SERVED}/risk/reset", {"reason": "a test"}),
        ("listEvents", 200, "GET", f"{SERVED}/events", None),
    ),
    "portfolio": (
        ("applyTrade", 201, "POST", "/api/v1/portfolio/contract/positions", POSITION),
        ("applyTrade", 422, "POST", "/api/v1/portfolio/contract/positions", POSITION | {"price": 151}),
        (
            "applyTrade",
            409,
            "POST",
            "/api/v1/portfolio/c/positions",
            POSITION | {"tradeId": "c-2", "orderType": "SELL"},
        ),
        ("voidTrade", 200, "POST", "/api/v1/portfolio/contract/voids", POSITION),
        ("voidTrade", 200, "POST", "/api/v1/portfolio/contract/voids", POSITION | {"tradeId": "c-3"}),
        ("readPortfolio", 200, "GET", "/api/v1/portfolio/contract", None),
        ("simulateFailurePortfolio", 200, "POST", "/api/v1/simulate/failure", {"is_healthy": False}),
        ("readPortfolio", 503, "GET", "/api/v1/portfolio/contract", None),
        ("readReadiness", 503, "GET", "/api/v1/health/ready", None),
        ("simulateFailurePortfolio", 200, "POST", "/api/v1/simulate/failure", {}),
    ),
    "market-data": (
        ("readPrice", 200, "GET", "/api/v1/prices/AAPL", None),
        ("readPrice", 404, "GET", "/api/v1/prices/NOPE", None),
        ("readPrices", 200, "POST", "/api/v1/prices/batch", {"symbols": ["AAPL", "NOPE"]}),
        ("readPrices", 422, "POST", "/api/v1/prices/batch", {"symbols": []}),
        ("readSimulationMarketData", 200, "GET", "/api/v1/simulate/failure", None),
    ),
}


@pytest.mark.parametrize("service", PACKAGES)
def test_answers_say_what_the_document_says_and_no_more(platform: Platform, service: str) -> None:
    contract = Contract(platform.get(service, "/openapi.json").json())
    for operation, status, method, path, body in (*OWN[service], *COMMON):
        answer = ask(platform, service, method, path, body)
        assert answer.status_code == status, (operation, answer.text)
        contract.check(operation, answer)


def ask(platform: Platform, service: str, method: str, path: str, body: Any) -> Any:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    return platform.request(method, service, path, headers=headers, **({} if body is None else {"json": body}))


@pytest.mark.parametrize("service", PACKAGES)
def test_no_request_that_the_document_allows_or_forbids_is_answered_otherwise(platform: Platform, service: str) -> None:
    code, said = run(platform, service, "--phases", "examples,coverage,fuzzing", "--max-examples", "1", "--seed", "1")
    assert code == 0, said


@pytest.mark.nightly
def test_service_that_wants_no_token_says_so_and_asks_for_none(open_platform: Platform) -> None:
    code, said = run(open_platform, "gateway", "--phases", "examples", "--seed", "1")
    assert code == 0, said
