"""The limits of orders, and the details of a refusal."""

from decimal import Decimal

import pytest

from cb import CircuitBreaker, CircuitOpenError
from gateway.services.risk import RiskLimits, RiskService
from gateway.trading.errors import DependencyError, RiskLimitError
from gateway.trading.exposure import Exposure
from gateway.trading.trade import Side
from servicekit import SimulatedError
from tests.platform.trades.conftest import order

LIMITS = RiskLimits(
    price_band=Decimal("0.05"), order_value=Decimal(10_000), position=Decimal(100), daily_volume=Decimal(20_000)
)
MARKET = Decimal(150)


@pytest.fixture
def risk() -> RiskService:
    return RiskService(CircuitBreaker("risk"), lambda _: None, LIMITS)


@pytest.mark.parametrize("price", ["142.5", "157.5"])
def test_price_at_the_edge_of_the_band_is_within(risk: RiskService, price: str) -> None:
    risk.check(order(price=price), MARKET)


@pytest.mark.parametrize("price", ["142.4999", "157.5001"])
def test_price_outside_of_the_band_is_refused(risk: RiskService, price: str) -> None:
    with pytest.raises(RiskLimitError) as caught:
        risk.check(order(price=price), MARKET)

    refusal = caught.value
    assert (refusal.code, refusal.limit, refusal.value) == (
        "price-out-of-band",
        "142.5000 to 157.5000",
        price.ljust(6, "0"),
    )


def test_order_above_the_value_limit_is_refused(risk: RiskService) -> None:
    risk.check(order(66), MARKET)

    with pytest.raises(
        RiskLimitError, match=r"the value of an order must be at most 10000\.00, got 10050\.00"
    ) as caught:
        risk.check(order(67), MARKET)

    assert (caught.value.code, caught.value.limit, caught.value.value) == ("order-value-limit", "10000.00", "10050.00")


def test_position_above_its_limit_is_refused_for_buys_only(risk: RiskService) -> None:
    beyond = Exposure(position=Decimal(101), volume=Decimal(0))
    risk.admit(order(), Exposure(Decimal(100), Decimal(20_000)))
    risk.admit(order(side=Side.SELL), beyond)

    with pytest.raises(RiskLimitError, match="the position in AAPL must be at most 100, got 101") as caught:
        risk.admit(order(), beyond)

    assert caught.value.code == "position-limit"


@pytest.mark.parametrize("side", Side)
def test_daily_volume_above_its_limit_is_refused(risk: RiskService, side: Side) -> None:
    with pytest.raises(RiskLimitError, match=r"must be at most 20000\.00, got 20000\.0001") as caught:
        risk.admit(order(side=side), Exposure(Decimal(1), Decimal("20000.0001")))

    assert caught.value.code == "daily-volume-limit"


def test_violated_limit_is_not_a_failure_of_the_service(risk: RiskService) -> None:
    breaker = CircuitBreaker("risk")
    risk = RiskService(breaker, lambda _: None, LIMITS)
    with pytest.raises(RiskLimitError):
        risk.check(order(1000), MARKET)

    assert breaker.snapshot().totals.failures == 0


def test_failed_check_refuses_the_order() -> None:
    breaker = CircuitBreaker("risk")

    def fail(_: float) -> None:
        raise SimulatedError("as told")

    with pytest.raises(DependencyError):
        RiskService(breaker, fail, LIMITS).check(order(), MARKET)
    breaker.control.force_open(reason="for the test")
    with pytest.raises(CircuitOpenError):
        RiskService(breaker, fail, LIMITS).check(order(), MARKET)
