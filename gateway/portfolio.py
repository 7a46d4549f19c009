"""The portfolio service, as the gateway knows it."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from marshmallow import EXCLUDE, Schema, ValidationError, fields, validate

from cb.http import ClientError, HTTPClient, Json, Refused, ServiceUnavailable
from cb.web.fields import Identifier, Money, Symbol, Whole

from .errors import Unavailable, UnknownUser
from .trade import State, Trade, Verdict

NAME = "portfolio"


@dataclass(frozen=True, slots=True)
class Holdings:
    """What a user owns."""

    user_id: str
    cash: Decimal
    #: each with `symbol` and `quantity`
    positions: list[dict[str, Any]]


# What an account may hold is far more than one order may move.
class PositionSchema(Schema):
    symbol = Symbol(required=True)
    quantity = Whole(1, 2**63 - 1, required=True)


class HoldingsSchema(Schema):
    user_id = Identifier(required=True, data_key="userId")
    cash = Money(required=True, min_exclusive=None, digits=15)
    positions = fields.List(fields.Nested(PositionSchema(unknown=EXCLUDE)), required=True)


class _Filled(Schema):
    trade_id = Identifier(required=True, data_key="tradeId")
    status = fields.String(required=True, validate=validate.Equal("FILLED"))


class _Rejected(Schema):
    trade_id = Identifier(required=True, data_key="tradeId")
    status = fields.String(required=True, validate=validate.Equal("REJECTED"), data_key="tradeStatus")
    code = fields.String(required=True, validate=validate.Length(1, 40))
    detail = fields.String(required=True, validate=validate.Length(1, 300))


class Portfolio:
    """Books trades and shows what users own. A rejection and an unknown user are answers, not failures.

    Any other answer than the two verdicts leaves it open whether a trade was booked.
    """

    def __init__(self, client: HTTPClient) -> None:
        self._client = client
        self._filled, self._rejected = _Filled(unknown=EXCLUDE), _Rejected(unknown=EXCLUDE)
        self._holdings = HoldingsSchema(unknown=EXCLUDE)

    def find(self, user_id: str) -> Holdings:
        """Return what a user owns. Raises UnknownUser, Unavailable, CircuitOpenError, BulkheadFullError."""

        def check(answer: Json) -> Holdings:
            holdings = Holdings(**self._holdings.load(answer))
            if holdings.user_id != user_id:
                raise ValueError("answered for another user")
            return holdings

        try:
            return self._client.get_json(f"/api/v1/portfolio/{user_id}", check=check)
        except Refused as error:
            if error.status == 404:
                raise UnknownUser(user_id) from error
            raise Unavailable(NAME, str(error)) from error
        except ClientError as error:
            raise Unavailable(NAME, str(error)) from error

    def apply(self, trade: Trade) -> Verdict:
        """Have a trade booked, once however often it is asked.

        Raises Unavailable, CircuitOpenError, BulkheadFullError.
        """
        order = trade.order
        body = {
            "tradeId": trade.trade_id,
            "symbol": order.symbol,
            "quantity": order.quantity,
            "orderType": order.side,
            "price": str(order.price),
        }

        def filled(answer: Json) -> Verdict:
            self._same(trade, self._filled.load(answer))
            return Verdict(State.FILLED)

        try:
            return self._client.post_json(f"/api/v1/portfolio/{order.user_id}/positions", body, check=filled)
        except Refused as error:
            return self._rejection(trade, error)
        except ServiceUnavailable as error:
            raise Unavailable(NAME, str(error), sent=error.sent) from error
        except ClientError as error:
            raise Unavailable(NAME, str(error)) from error

    def _rejection(self, trade: Trade, refused: Refused) -> Verdict:
        try:
            if refused.status != 409:
                raise refused
            answer = self._same(trade, self._rejected.load(refused.body))
        except (Refused, ValidationError, ValueError) as error:
            raise Unavailable(NAME, str(error)) from error
        return Verdict(State.REJECTED, answer["code"], answer["detail"])

    @staticmethod
    def _same(trade: Trade, answer: dict[str, str]) -> dict[str, str]:
        if answer["trade_id"] != trade.trade_id:
            raise ValueError("answered for another trade")
        return answer
