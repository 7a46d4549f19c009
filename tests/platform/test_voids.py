"""Voided trades are never booked, and booked trades are never voided."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest

import portfolio
from portfolio.booking import Booking, Settlement, Side, Verdict
from portfolio.service import PortfolioService, TradeIdReusedError
from portfolio.store import AccountStore
from servicekit.database import Database
from servicekit.migrations import migrate
from tests.platform.conftest import Platform

TRADE = {"tradeId": "void-1", "symbol": "AAPL", "quantity": 1, "orderType": "BUY", "price": "150"}


@pytest.fixture
def portfolios(database_url: str) -> Iterator[PortfolioService]:
    database = migrate(Database(database_url), portfolio)
    yield PortfolioService(AccountStore(database), Decimal(1000))
    database.close()


def order(quantity: int = 1) -> Booking:
    return Booking("t1", "ann", "AAPL", quantity, Side.BUY, Decimal(100))


def test_voided_trade_is_not_booked_by_a_late_request(portfolios: PortfolioService) -> None:
    assert portfolios.void(order()).outcome is Settlement.VOID

    assert portfolios.apply(order()).outcome is Settlement.VOID
    assert (portfolios.find("ann").cash, portfolios.find("ann").positions) == (1000, {})


def test_booked_trade_cannot_be_voided(portfolios: PortfolioService) -> None:
    portfolios.apply(order())

    assert portfolios.void(order()) == Verdict(Settlement.FILLED)
    assert portfolios.find("ann").positions == {"AAPL": 1}


def test_rejected_trade_stays_rejected(portfolios: PortfolioService) -> None:
    rejected = portfolios.apply(order(100))

    assert portfolios.void(order(100)) == rejected
    assert rejected.code == "insufficient-funds"


def test_void_of_another_order_with_the_same_id_is_refused(portfolios: PortfolioService) -> None:
    portfolios.apply(order())

    with pytest.raises(TradeIdReusedError):
        portfolios.void(order(2))


def test_concurrent_booking_and_voiding_agree(portfolios: PortfolioService) -> None:
    acts: list[Callable[[Booking], Verdict]] = [portfolios.apply, portfolios.void] * 6

    with ThreadPoolExecutor(12) as pool:
        outcomes = {verdict.outcome for verdict in pool.map(lambda act: act(order()), acts)}

    assert len(outcomes) == 1
    booked = portfolios.find("ann").positions == {"AAPL": 1}
    assert booked is (outcomes == {Settlement.FILLED})


def test_void_is_returned_over_http(platform: Platform) -> None:
    path = "/api/v1/portfolio/voider"

    void = platform.post("portfolio", f"{path}/voids", TRADE)
    late = platform.post("portfolio", f"{path}/positions", TRADE)
    filled = platform.post("portfolio", f"{path}/positions", TRADE | {"tradeId": "void-2"})
    never = platform.post("portfolio", f"{path}/voids", TRADE | {"tradeId": "void-2"})

    assert (void.status_code, void.json()["status"], void.json()["code"]) == (200, "VOID", "voided")
    assert (late.status_code, late.json()["tradeStatus"], late.json()["code"]) == (409, "VOID", "voided")
    assert (filled.status_code, never.status_code, never.json()["status"]) == (201, 200, "FILLED")
