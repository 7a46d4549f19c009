"""The trades that the portfolio has settled, for a client that compares them with its own."""

from typing import Any

from flask import Blueprint, current_app
from marshmallow import Schema, fields, post_load, validate

from cb.web import Answer, Answered, operation
from cb.web.access import require_service
from cb.web.fields import Identifier, Money, Quantity, Symbol, Whole

from .order import Outcome, Side
from .service import Portfolios

bp = Blueprint("history", __name__, url_prefix="/api/v1/trades")
bp.before_request(require_service)

#: trades of an answer, at most
MOST = 200


@bp.before_request
def simulate() -> None:
    current_app.extensions["faults"].apply()


class SearchSchema(Schema):
    trade_ids = fields.List(
        Identifier(),
        data_key="tradeIds",
        load_default=None,
        allow_none=True,
        validate=validate.Length(max=MOST),
        metadata={"description": "Of these, those that are known; without it, of all, in the order of their ids."},
    )
    after = Identifier(
        load_default=None, allow_none=True, metadata={"description": "Of all: those behind this trade id."}
    )
    limit = Whole(1, MOST, load_default=MOST, metadata={"description": "Of all: at most so many."})

    @post_load
    def arguments(self, values: dict[str, Any], **_: object) -> dict[str, Any]:
        return values


class SettledTradeSchema(Answered):
    trade_id = Identifier(attribute="order.trade_id", data_key="tradeId", required=True)
    user_id = Identifier(attribute="order.user_id", data_key="userId", required=True)
    symbol = Symbol(attribute="order.symbol", required=True)
    quantity = Quantity(attribute="order.quantity", required=True)
    side = fields.Enum(Side, attribute="order.side", data_key="orderType", by_value=True, required=True)
    price = Money(attribute="order.price", required=True)
    status = fields.Enum(Outcome, attribute="verdict.outcome", by_value=True, required=True)


class SettledTradesSchema(Answered):
    """Trades and what became of them, for ever."""

    trades = fields.List(fields.Nested(SettledTradeSchema), required=True)


_TRADE = {"tradeId": "t-1", "userId": "user123", "symbol": "AAPL", "quantity": 100, "orderType": "BUY"}
_FOUND = {"trades": [{**_TRADE, "price": "150.00", "status": "FILLED"}]}


@bp.post("/search")
@operation(
    "searchTrades",
    tag="portfolio",
    access="services",
    body=SearchSchema(),
    example={"tradeIds": ["t-1"]},
    answers={200: Answer("Those that are known.", SettledTradesSchema(), example=_FOUND)},
    problems={
        429: "`bulkhead-full`: the database has as many transactions at once as it may have.",
        503: "`database-unavailable`, `circuit-open`, or `simulated-failure`: somebody asked for it.",
    },
)
def search(body: dict[str, Any]) -> Any:
    """List settled trades: of some ids, or of all in pages."""
    service: Portfolios = current_app.extensions["portfolios"]
    return {"trades": [{"order": order, "verdict": verdict} for order, verdict in service.settled(**body)]}
