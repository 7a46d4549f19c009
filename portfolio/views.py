"""The portfolio's resources."""

from typing import Any

from flask import Blueprint, current_app

from servicekit import Problem, ResponseSpec, operation
from servicekit.access import require_service
from servicekit.fields import Identifier

from .order import Order, Outcome
from .schemas import AppliedSchema, OrderSchema, PortfolioSchema, SettledSchema
from .service import Portfolios

bp = Blueprint("portfolio", __name__, url_prefix="/api/v1/portfolio")

_USER = {"user_id": Identifier(data_key="userId", metadata={"examples": ["user123"]})}
_ORDER = {"tradeId": "t-1", "symbol": "AAPL", "quantity": 100, "orderType": "BUY", "price": "150.00"}
_APPLIED = {**_ORDER, "userId": "user123", "status": "FILLED"}
_PORTFOLIO = {"userId": "user123", "cash": "985000.00", "positions": [{"symbol": "AAPL", "quantity": 100}]}
_FAILS = {
    429: "`bulkhead-full`: the database has as many transactions at once as it may have.",
    503: "`database-unavailable`, `circuit-open`, or `simulated-failure`: somebody asked for it.",
}

bp.before_request(require_service)


@bp.before_request
def simulate() -> None:
    current_app.extensions["faults"].apply()


@bp.get("/<user_id>")
@operation(
    "readPortfolio",
    tag="portfolio",
    access="services",
    path=_USER,
    responses={200: ResponseSpec("What the user owns.", PortfolioSchema(), example=_PORTFOLIO)},
    problems={404: "`unknown-user`: nobody of that id has an account.", **_FAILS},
)
def show(user_id: str) -> Any:
    """Tell what a user owns."""
    return _portfolios().find(user_id)


@bp.post("/<user_id>/positions")
@operation(
    "applyTrade",
    tag="portfolio",
    access="services",
    path=_USER,
    body=OrderSchema(),
    example=_ORDER,
    responses={201: ResponseSpec("It is booked.", AppliedSchema(), example=_APPLIED)},
    problems={
        409: "It is not booked, and never will be: `insufficient-funds`, `insufficient-position`, `balance-limit`, or "
        "`voided`.",
        **_FAILS,
    },
)
def apply(user_id: str, body: dict[str, Any]) -> Any:
    """Book a trade, once however often it is sent.

    Another order of the same `tradeId` is refused with 422, `trade-id-reused`. A user's first order opens the account.
    """
    order = Order(user_id=user_id, **body)
    verdict = _portfolios().apply(order)
    if verdict.outcome is not Outcome.FILLED:
        raise Problem(409, str(verdict.code), str(verdict.detail), tradeId=order.trade_id, tradeStatus=verdict.outcome)
    return {"order": order, "verdict": verdict}


@bp.post("/<user_id>/voids")
@operation(
    "voidTrade",
    tag="portfolio",
    access="services",
    path=_USER,
    body=OrderSchema(),
    example=_ORDER,
    responses={200: ResponseSpec("What became of it, for ever.", SettledSchema())},
    problems=_FAILS,
)
def void(user_id: str, body: dict[str, Any]) -> Any:
    """See to it that a trade which has not been booked never will be.

    The answer is `VOID`, or what became of the trade before.
    """
    order = Order(user_id=user_id, **body)
    return {"order": order, "verdict": _portfolios().void(order)}


def _portfolios() -> Portfolios:
    service: Portfolios = current_app.extensions["portfolios"]
    return service
