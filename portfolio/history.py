"""The settled trades, for a client that compares them with its own."""

import re
from typing import Any

from flask import Blueprint, current_app
from marshmallow import Schema, ValidationError, fields, post_load, validate

from servicekit import ResponseSchema, ResponseSpec, operation
from servicekit.access import require_service
from servicekit.database import stored_amount
from servicekit.fields import Identifier, Money, Symbol, Text, Whole
from servicekit.ids import ID

from .booking import Settlement, Side
from .service import PortfolioService
from .store import StoredRow

bp = Blueprint("history", __name__, url_prefix="/api/v1/trades")
bp.before_request(require_service)

#: maximum number of trades in a response
MAX_TRADES = 200
#: status of a trade with a damaged row
DAMAGED = "DAMAGED"


@bp.before_request
def simulate() -> None:
    current_app.extensions["faults"].apply()


class _StoredId(Text):
    """The id of a trade as stored, which may be damaged."""

    pattern, rule = re.compile(r"[ -~\u00a0-\ud7ff\ue000-\ufffd]{0,1000}"), "must be at most 1000 printable characters"


class SearchSchema(Schema):
    trade_ids = fields.List(
        Identifier(),
        data_key="tradeIds",
        load_default=None,
        allow_none=True,
        validate=validate.Length(max=MAX_TRADES),
        metadata={"description": "The trades to return, if they are settled; null: all, in the order of their ids."},
    )
    after = _StoredId(
        load_default=None,
        allow_none=True,
        metadata={"description": "Return trades with ids above this one, if `tradeIds` is null."},
    )
    limit = Whole(
        1,
        MAX_TRADES,
        load_default=MAX_TRADES,
        metadata={"description": "Maximum number of trades, if `tradeIds` is null."},
    )

    @post_load
    def arguments(self, values: dict[str, Any], **_: object) -> dict[str, Any]:
        return values


class _FactsSchema(Schema):
    user_id = Identifier(data_key="userId", required=True, allow_none=True)
    symbol = Symbol(required=True, allow_none=True)
    quantity = Whole(1, 2**63 - 1, required=True, allow_none=True)
    side = fields.Enum(Side, data_key="orderType", by_value=True, required=True, allow_none=True)
    price = Money(required=True, allow_none=True)


class SettledTradeSchema(_FactsSchema, ResponseSchema):
    """A trade as stored. The status of a damaged row is `DAMAGED`, and its order is null."""

    trade_id = fields.String(data_key="tradeId", required=True)
    status = fields.String(required=True, validate=validate.OneOf((*Settlement, DAMAGED)))


class SettledTradesSchema(ResponseSchema):
    """Trades and their final outcomes."""

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
    responses={200: ResponseSpec("The settled trades.", SettledTradesSchema(), example=_FOUND)},
    problems={
        429: "`bulkhead-full`: the limit of concurrent transactions is reached.",
        503: "`database-unavailable`, `circuit-open`, or `simulated-failure`.",
    },
)
def search(body: dict[str, Any]) -> Any:
    """List settled trades: those of some ids, or all in pages."""
    service: PortfolioService = current_app.extensions["portfolios"]
    return {"trades": [_read(stored) for stored in service.settled(**body)]}


_FACTS = _FactsSchema()


def _read(stored: StoredRow) -> dict[str, Any]:
    """Return a trade for the response. A damaged trade must not hide the others."""
    trade_id, facts = stored["trade_id"], {"userId": stored["user_id"], "symbol": stored["symbol"]}
    try:
        if not ID.fullmatch(trade_id):
            raise ValueError(trade_id)
        numbers = {"quantity": int(stored["quantity"]), "price": stored_amount(stored["price"])}
        order = _FACTS.load({**facts, **numbers, "orderType": stored["side"]})
        return {**order, "trade_id": trade_id, "status": Settlement(stored["outcome"])}
    except (ValueError, ArithmeticError, ValidationError):
        readable = trade_id.encode(errors="surrogateescape").decode(errors="replace")
        return {**dict.fromkeys(_FACTS.fields), "trade_id": readable, "status": DAMAGED}
