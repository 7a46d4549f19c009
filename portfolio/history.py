"""The trades that the portfolio has settled, for a client that compares them with its own."""

import re
from typing import Any

from flask import Blueprint, current_app
from marshmallow import Schema, ValidationError, fields, post_load, validate

from servicekit import ResponseSchema, ResponseSpec, operation
from servicekit.access import require_service
from servicekit.database import stored_amount
from servicekit.fields import Identifier, Money, Symbol, Text, Whole
from servicekit.ids import ID

from .order import Outcome, Side
from .service import Portfolios
from .store import Stored

bp = Blueprint("history", __name__, url_prefix="/api/v1/trades")
bp.before_request(require_service)

#: trades of an answer, at most
MOST = 200
#: status of a trade whose row makes no sense
DAMAGED = "DAMAGED"


@bp.before_request
def simulate() -> None:
    current_app.extensions["faults"].apply()


class _Anything(Text):
    """The id of a trade as it is stored, even if it is none that an order may have."""

    pattern, rule = re.compile(r"[ -~\u00a0-\ud7ff\ue000-\ufffd]{0,1000}"), "must be at most 1000 printable characters"


class SearchSchema(Schema):
    trade_ids = fields.List(
        Identifier(),
        data_key="tradeIds",
        load_default=None,
        allow_none=True,
        validate=validate.Length(max=MOST),
        metadata={"description": "Of these, those that are known; without it, of all, in the order of their ids."},
    )
    after = _Anything(
        load_default=None, allow_none=True, metadata={"description": "Of all: those behind this trade id."}
    )
    limit = Whole(1, MOST, load_default=MOST, metadata={"description": "Of all: at most so many."})

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
    """A trade as it is stored. Where that makes no sense it is `DAMAGED`, and of the order nothing is told."""

    trade_id = fields.String(data_key="tradeId", required=True)
    status = fields.String(required=True, validate=validate.OneOf((*Outcome, DAMAGED)))


class SettledTradesSchema(ResponseSchema):
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
    responses={200: ResponseSpec("Those that are known.", SettledTradesSchema(), example=_FOUND)},
    problems={
        429: "`bulkhead-full`: the database has as many transactions at once as it may have.",
        503: "`database-unavailable`, `circuit-open`, or `simulated-failure`: somebody asked for it.",
    },
)
def search(body: dict[str, Any]) -> Any:
    """List settled trades: of some ids, or of all in pages."""
    service: Portfolios = current_app.extensions["portfolios"]
    return {"trades": [_read(stored) for stored in service.settled(**body)]}


_FACTS = _FactsSchema()


def _read(stored: Stored) -> dict[str, Any]:
    """Return a trade as it is told. One that is damaged must not hide the others."""
    trade_id, facts = stored["trade_id"], {"userId": stored["user_id"], "symbol": stored["symbol"]}
    try:
        if not ID.fullmatch(trade_id):
            raise ValueError(trade_id)
        numbers = {"quantity": int(stored["quantity"]), "price": stored_amount(stored["price"])}
        order = _FACTS.load({**facts, **numbers, "orderType": stored["side"]})
        return {**order, "trade_id": trade_id, "status": Outcome(stored["outcome"])}
    except (ValueError, ArithmeticError, ValidationError):
        readable = trade_id.encode(errors="surrogateescape").decode(errors="replace")
        return {**dict.fromkeys(_FACTS.fields), "trade_id": readable, "status": DAMAGED}
