"""The portfolio service, as the gateway knows it."""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from marshmallow import EXCLUDE, Schema, ValidationError, fields, post_load, validate

from cb.http import ClientError, ClientErrorResponse, HTTPClient, Json, ServiceUnavailable
from gateway.trading.errors import Unavailable, UnknownUser
from gateway.trading.trade import Order, Side, State, Trade, Verdict
from servicekit.fields import Identifier, Money, StrictField, Symbol, Whole
from servicekit.ids import ID

NAME = "portfolio"


@dataclass(frozen=True, slots=True)
class Holdings:
    """What a user owns."""

    user_id: str
    cash: Decimal
    #: each with `symbol` and `quantity`
    positions: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Booked:
    """A trade as the portfolio has settled it."""

    trade_id: str
    #: None if it makes no sense
    order: Order | None
    #: `FILLED`, `REJECTED`, `VOID`, or `DAMAGED` if the portfolio itself cannot read it
    status: str


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


class _Sentence(StrictField[str]):
    """Words for people, as far as they can be kept. A verdict must not be lost for its reason."""

    def check(self, value: Any) -> str:
        if not isinstance(value, str):
            raise ValidationError("must be text")
        # No database takes a half of a character, nor PostgreSQL a NUL.
        return "".join(each if each.isprintable() else "\ufffd" for each in value[:300])


_CODE = validate.Regexp(r"[a-z0-9-]{1,40}\Z", error="must be a problem code")


class _Turned(Schema):
    """A trade that is not booked, and never will be."""

    trade_id = Identifier(required=True, data_key="tradeId")
    status = fields.String(required=True, validate=validate.OneOf(("REJECTED", "VOID")), data_key="tradeStatus")
    code = fields.String(required=True, validate=_CODE)
    detail = _Sentence(required=True)


class _Settled(_Turned):
    """What a trade has come to that should be void."""

    status = fields.String(required=True, validate=validate.OneOf(("FILLED", "REJECTED", "VOID")))
    code = fields.String(load_default=None, validate=_CODE)
    detail = _Sentence(load_default=None)


class _Ordered(Schema):
    user_id = Identifier(required=True, data_key="userId")
    symbol = Symbol(required=True)
    quantity = Whole(1, 2**63 - 1, required=True)
    side = fields.Enum(Side, by_value=True, required=True, data_key="orderType")
    price = Money(required=True)

    @post_load
    def ordered(self, values: dict[str, Any], **_: object) -> Order:
        return Order(**values)


class _Booked(Schema):
    trade_id = fields.String(required=True, data_key="tradeId")
    status = fields.String(required=True, validate=validate.OneOf(("FILLED", "REJECTED", "VOID", "DAMAGED")))


class _Found(Schema):
    trades = fields.List(fields.Dict(), required=True)


#: what the portfolio's words mean for a trade
_STATES = {"FILLED": State.FILLED, "REJECTED": State.REJECTED, "VOID": State.CANCELLED}


class Portfolio:
    """Books trades and shows what users own. A rejection and an unknown user are answers, not failures.

    Any other answer than the two verdicts leaves it open whether a trade was booked.
    """

    def __init__(self, client: HTTPClient) -> None:
        self._client = client
        self._filled, self._turned, self._settled = (made(unknown=EXCLUDE) for made in (_Filled, _Turned, _Settled))
        self._holdings, self._found = HoldingsSchema(unknown=EXCLUDE), _Found(unknown=EXCLUDE)
        self._booked, self._ordered = _Booked(unknown=EXCLUDE), _Ordered(unknown=EXCLUDE)

    def find(self, user_id: str) -> Holdings:
        """Return what a user owns. Raises UnknownUser, Unavailable, CircuitOpenError, BulkheadFullError."""

        def check(answer: Json) -> Holdings:
            holdings = Holdings(**self._holdings.load(answer))
            if holdings.user_id != user_id:
                raise ValueError("answered for another user")
            return holdings

        try:
            return self._client.get_json(f"/api/v1/portfolio/{user_id}", check=check)
        except ClientErrorResponse as error:
            if error.status == 404:
                raise UnknownUser(user_id) from error
            raise Unavailable(NAME, str(error)) from error
        except ClientError as error:
            raise Unavailable(NAME, str(error)) from error

    def apply(self, trade: Trade, timeout: float | None = None) -> Verdict:
        """Have a trade booked, once however often it is asked.

        `timeout` is seconds, where fewer are left than the client allows. Raises Unavailable, CircuitOpenError,
        BulkheadFullError.
        """

        def filled(answer: Json) -> Verdict:
            return _verdict(trade, self._filled.load(answer))

        return self._settle(trade, "positions", filled, timeout)

    def void(self, trade: Trade) -> Verdict:
        """Have a trade never booked, unless it has been.

        Raises Unavailable, CircuitOpenError, BulkheadFullError.
        """

        def settled(answer: Json) -> Verdict:
            return _verdict(trade, self._settled.load(answer))

        return self._settle(trade, "voids", settled)

    def booked(self, trade_ids: list[str]) -> dict[str, Booked]:
        """Return those of some trades that are settled. Raises Unavailable, CircuitOpenError, BulkheadFullError."""
        possible = [trade_id for trade_id in trade_ids if ID.fullmatch(trade_id)]  # it is not asked for any other

        def right(found: list[str]) -> bool:
            return set(found) <= set(possible)

        return {each.trade_id: each for each in self._search({"tradeIds": possible}, right)}

    def booked_after(self, trade_id: str | None, limit: int) -> list[Booked]:
        """Return the settled trades behind one, in the portfolio's order. Raises as `booked` does."""

        def right(found: list[str]) -> bool:
            return len(found) <= limit and trade_id not in found

        return self._search({"after": trade_id, "limit": limit}, right)

    def _search(self, body: dict[str, Any], right: Callable[[list[str]], bool]) -> list[Booked]:
        def found(answer: Json) -> list[Booked]:
            trades = [self._read(each) for each in self._found.load(answer)["trades"]]
            ids = [each.trade_id for each in trades]
            if len(set(ids)) < len(ids) or not right(ids):
                raise ValueError("answered other trades than were asked for")
            return trades

        try:
            return self._client.post_json("/api/v1/trades/search", body, check=found)
        except ClientError as error:
            raise Unavailable(NAME, str(error)) from error

    def _read(self, answer: dict[str, Any]) -> Booked:
        booked = self._booked.load(answer)
        try:
            order = self._ordered.load(answer)
        except ValidationError:  # of the one trade, and the others are compared
            order = None
        return Booked(booked["trade_id"], order, booked["status"])

    def _settle(
        self, trade: Trade, resource: str, check: Callable[[Json], Verdict], timeout: float | None = None
    ) -> Verdict:
        order = trade.order
        body = {
            "tradeId": trade.trade_id,
            "symbol": order.symbol,
            "quantity": order.quantity,
            "orderType": order.side,
            "price": str(order.price),
        }
        try:
            path = f"/api/v1/portfolio/{order.user_id}/{resource}"
            return self._client.post_json(path, body, check=check, timeout=timeout)
        except ClientErrorResponse as error:
            return self._turn(trade, error)
        except ServiceUnavailable as error:
            raise Unavailable(NAME, str(error), sent=error.sent) from error
        except ClientError as error:
            raise Unavailable(NAME, str(error)) from error

    def _turn(self, trade: Trade, refused: ClientErrorResponse) -> Verdict:
        try:
            if refused.status != 409:
                raise refused
            return _verdict(trade, self._turned.load(refused.body))
        except (ClientErrorResponse, ValidationError, ValueError) as error:
            raise Unavailable(NAME, str(error)) from error


def _verdict(trade: Trade, answer: dict[str, Any]) -> Verdict:
    if answer["trade_id"] != trade.trade_id:
        raise ValueError("answered for another trade")
    return Verdict(_STATES[answer["status"]], answer.get("code"), answer.get("detail"))
