"""The portfolio's resources."""

from typing import Any

from flask import Blueprint, current_app

from cb.web import Problem, check_id, read_json

from .order import Order, Outcome
from .schemas import AppliedSchema, OrderSchema, PortfolioSchema
from .service import Portfolios

bp = Blueprint("portfolio", __name__, url_prefix="/api/v1/portfolio")

_order, _applied, _portfolio = OrderSchema(), AppliedSchema(), PortfolioSchema()


@bp.before_request
def simulate() -> None:
    current_app.extensions["faults"].apply()


@bp.get("/<user_id>")
def show(user_id: str) -> Any:
    return _portfolio.dump(_portfolios().find(check_id("userId", user_id)))


@bp.post("/<user_id>/positions")
def apply(user_id: str) -> Any:
    order = Order(user_id=check_id("userId", user_id), **read_json(_order))
    verdict = _portfolios().apply(order)
    if verdict.outcome is not Outcome.FILLED:
        raise Problem(409, str(verdict.code), str(verdict.detail), tradeId=order.trade_id, tradeStatus=verdict.outcome)
    return _applied.dump(order) | {"status": verdict.outcome}, 201


@bp.post("/<user_id>/voids")
def void(user_id: str) -> Any:
    order = Order(user_id=check_id("userId", user_id), **read_json(_order))
    verdict = _portfolios().void(order)
    reason = {"code": verdict.code, "detail": verdict.detail} if verdict.code else {}
    return _applied.dump(order) | {"status": verdict.outcome} | reason


def _portfolios() -> Portfolios:
    service: Portfolios = current_app.extensions["portfolios"]
    return service
