"""Resources of accounts and their trades."""

from typing import Any

from flask import Blueprint, current_app

from servicekit import Problem, ResponseSpec, operation
from servicekit.access import require_service
from servicekit.fields import Identifier

from .booking import Booking, Settlement
from .schemas import AppliedSchema, OrderSchema, PortfolioSchema, SettledSchema
from .service import PortfolioService

bp = Blueprint("portfolio", __name__, url_prefix="/api/v1/portfolio")

_USER = {"user_id": Identifier(data_key="userId", metadata={"examples": ["user123"]})}
_ORDER = {"tradeId": "t-1", "symbol": "AAPL", "quantity": 100, "orderType": "BUY", "price": "150.00"}
_APPLIED = {**_ORDER, "userId": "user123", "status": "FILLED"}
_PORTFOLIO = {"userId": "user123", "cash": "985000.00", "positions": [{"symbol": "AAPL", "quantity": 100}]}
_FAILS = {
    429: "`bulkhead-full`: the limit of concurrent transactions is reached.",
    503: "`database-unavailable`, `circuit-open`, or `simulated-failure`.",
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
    responses={200: ResponseSpec("Cash and positions.", PortfolioSchema(), example=_PORTFOLIO)},
    problems={404: "`unknown-user`: no account has that id.", **_FAILS},
)
def show(user_id: str) -> Any:
    """Read the cash and the positions of a user."""
    return _portfolios().find(user_id)


@bp.post("/<user_id>/positions")
@operation(
    "applyTrade",
    tag="portfolio",
    access="services",
    path=_USER,
    body=OrderSchema(),
    example=_ORDER,
    responses={201: ResponseSpec("The trade is booked.", AppliedSchema(), example=_APPLIED)},
    problems={
        409: "The trade is not booked and never will be: `insufficient-funds`, `insufficient-position`, "
        "`balance-limit`, or `voided`.",
        **_FAILS,
    },
)
def apply(user_id: str, body: dict[str, Any]) -> Any:
    """Book a trade.

    Retries with the same `tradeId` are one trade. Another order with a known `tradeId` is refused with 422,
    `trade-id-reused`. A user's first trade opens the account.
    """
    booking = Booking(user_id=user_id, **body)
    verdict = _portfolios().apply(booking)
    if verdict.outcome is not Settlement.FILLED:
        raise Problem(
            409, str(verdict.code), str(verdict.detail), tradeId=booking.trade_id, tradeStatus=verdict.outcome
        )
    return {"booking": booking, "verdict": verdict}


@bp.post("/<user_id>/voids")
@operation(
    "voidTrade",
    tag="portfolio",
    access="services",
    path=_USER,
    body=OrderSchema(),
    example=_ORDER,
    responses={200: ResponseSpec("The final outcome.", SettledSchema())},
    problems=_FAILS,
)
def void(user_id: str, body: dict[str, Any]) -> Any:
    """Void a trade, so that it is never booked.

    The status is `VOID`, or the outcome of the trade if it was settled before.
    """
    booking = Booking(user_id=user_id, **body)
    return {"booking": booking, "verdict": _portfolios().void(booking)}


def _portfolios() -> PortfolioService:
    service: PortfolioService = current_app.extensions["portfolios"]
    return service
