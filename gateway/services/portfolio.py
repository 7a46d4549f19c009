"""The client of the portfolio service."""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from marshmallow import EXCLUDE, Schema, ValidationError, fields, post_load, validate

from cb.http import ClientError, ClientErrorResponse, HTTPClient, Json, ServiceUnavailable
from gateway.trading.errors import DependencyError, UnknownUserError
from gateway.trading.trade import Move, Order, Side, Trade, TradeState
from servicekit.fields import Identifier, Money, StrictField, Symbol, Whole
from servicekit.ids import ID

NAME = "portfolio"


@dataclass(frozen=True, slots=True)
class Holdings:
    """Cash and positions of a user."""

    user_id: str
    cash: Decimal
    #: each with `symbol` and `quantity`
    positions: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class BookedTrade:
    """A trade as settled by the portfolio."""

    trade_id: str
    #: None if the portfolio's row is damaged
    order: Order | None
    #: `FILLED`, `REJECTED`, `VOID`, or `DAMAGED` if the portfolio cannot read its row
    status: str


# An account may hold far more than one order may move.
class PositionSchema(Schema):
    symbol = Symbol(required=True)
    quantity = Whole(1, 2**63 - 1, required=True)


class HoldingsSchema(Schema):
    user_id = Identifier(required=True, data_key="userId")
    cash = Money(required=True, min_exclusive=None, digits=15)
    positions = fields.List(fields.Nested(PositionSchema(unknown=EXCLUDE)), required=True)


class _FilledSchema(Schema):
    trade_id = Identifier(required=True, data_key="tradeId")
    status = fields.String(required=True, validate=validate.Equal("FILLED"))


class _Sentence(StrictField[str]):
    """A sentence, reduced to text that a database can store: a bad reason must not lose a verdict."""

    def check(self, value: Any) -> str:
        if not isinstance(value, str):
            raise ValidationError("must be text")
        # No database stores lone surrogates, and PostgreSQL no NUL.
        return "".join(each if each.isprintable() else "\ufffd" for each in value[:300])


_CODE = validate.Regexp(r"[a-z0-9-]{1,40}\Z", error="must be a problem code")


class _RejectedSchema(Schema):
    """A trade that is not booked and never will be."""

    trade_id = Identifier(required=True, data_key="tradeId")
    status = fields.String(required=True, validate=validate.OneOf(("REJECTED", "VOID")), data_key="tradeStatus")
    code = fields.String(required=True, validate=_CODE)
    detail = _Sentence(required=True)


class _SettledSchema(_RejectedSchema):
    """The verdict on a trade after a request to void it."""

    status = fields.String(required=True, validate=validate.OneOf(("FILLED", "REJECTED", "VOID")))
    code = fields.String(load_default=None, validate=_CODE)
    detail = _Sentence(load_default=None)


class _OrderSchema(Schema):
    user_id = Identifier(required=True, data_key="userId")
    symbol = Symbol(required=True)
    quantity = Whole(1, 2**63 - 1, required=True)
    side = fields.Enum(Side, by_value=True, required=True, data_key="orderType")
    price = Money(required=True)

    @post_load
    def order(self, values: dict[str, Any], **_: object) -> Order:
        return Order(**values)


class _BookedSchema(Schema):
    trade_id = fields.String(required=True, data_key="tradeId")
    status = fields.String(required=True, validate=validate.OneOf(("FILLED", "REJECTED", "VOID", "DAMAGED")))


class _SearchSchema(Schema):
    trades = fields.List(fields.Dict(), required=True)


#: states by the portfolio's status
_STATES = {"FILLED": TradeState.FILLED, "REJECTED": TradeState.REJECTED, "VOID": TradeState.CANCELLED}


class PortfolioClient:
    """Books trades and reads accounts. A rejection and an unknown user are not failures of the service.

    After any response other than FILLED or a rejection, a trade may be booked or not.
    """

    def __init__(self, client: HTTPClient) -> None:
        self._client = client
        self._filled, self._rejected = _FilledSchema(unknown=EXCLUDE), _RejectedSchema(unknown=EXCLUDE)
        self._settled = _SettledSchema(unknown=EXCLUDE)
        self._holdings, self._search_result = HoldingsSchema(unknown=EXCLUDE), _SearchSchema(unknown=EXCLUDE)
        self._booked, self._order = _BookedSchema(unknown=EXCLUDE), _OrderSchema(unknown=EXCLUDE)

    def find(self, user_id: str) -> Holdings:
        """Return a user's cash and positions.

        Raises UnknownUserError, DependencyError, CircuitOpenError, BulkheadFullError.
        """

        def check(answer: Json) -> Holdings:
            holdings = Holdings(**self._holdings.load(answer))
            if holdings.user_id != user_id:
                raise ValueError("the response is for another user")
            return holdings

        try:
            return self._client.get_json(f"/api/v1/portfolio/{user_id}", check=check)
        except ClientErrorResponse as error:
            if error.status == 404:
                raise UnknownUserError(user_id) from error
            raise DependencyError(NAME, error.reason) from error
        except ClientError as error:
            raise DependencyError(NAME, error.reason) from error

    def apply(self, trade: Trade, timeout: float | None = None) -> Move:
        """Book a trade. The portfolio books a trade id once, however often it is sent.

        `timeout` is in seconds and shortens the timeout of the client. Raises DependencyError, CircuitOpenError,
        BulkheadFullError.
        """

        def filled(answer: Json) -> Move:
            return _move(trade, self._filled.load(answer))

        return self._settle(trade, "positions", filled, timeout)

    def void(self, trade: Trade) -> Move:
        """Void a trade, so that it is never booked, unless it has been booked already.

        Raises DependencyError, CircuitOpenError, BulkheadFullError.
        """

        def settled(answer: Json) -> Move:
            return _move(trade, self._settled.load(answer))

        return self._settle(trade, "voids", settled)

    def booked(self, trade_ids: list[str]) -> dict[str, BookedTrade]:
        """Return the settled ones of some trades, by id.

        Raises DependencyError, CircuitOpenError, BulkheadFullError.
        """
        valid = [trade_id for trade_id in trade_ids if ID.fullmatch(trade_id)]  # others are refused as invalid

        def expected(found: list[str]) -> bool:
            return set(found) <= set(valid)

        return {each.trade_id: each for each in self._search({"tradeIds": valid}, expected)}

    def booked_after(self, trade_id: str | None, limit: int) -> list[BookedTrade]:
        """Return at most `limit` settled trades after one, in the portfolio's order. Raises as `booked` does."""

        def expected(found: list[str]) -> bool:
            return len(found) <= limit and trade_id not in found

        return self._search({"after": trade_id, "limit": limit}, expected)

    def _search(self, body: dict[str, Any], expected: Callable[[list[str]], bool]) -> list[BookedTrade]:
        def found(answer: Json) -> list[BookedTrade]:
            trades = [self._read(each) for each in self._search_result.load(answer)["trades"]]
            ids = [each.trade_id for each in trades]
            if len(set(ids)) < len(ids) or not expected(ids):
                raise ValueError("the response has other trades than requested")
            return trades

        try:
            return self._client.post_json("/api/v1/trades/search", body, check=found)
        except ClientError as error:
            raise DependencyError(NAME, error.reason) from error

    def _read(self, answer: dict[str, Any]) -> BookedTrade:
        booked = self._booked.load(answer)
        try:
            order = self._order.load(answer)
        except ValidationError:  # this trade is damaged, the others are compared
            order = None
        return BookedTrade(booked["trade_id"], order, booked["status"])

    def _settle(self, trade: Trade, resource: str, check: Callable[[Json], Move], timeout: float | None = None) -> Move:
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
            return self._rejection(trade, error)
        except ServiceUnavailable as error:
            raise DependencyError(NAME, error.reason, sent=error.sent) from error
        except ClientError as error:
            raise DependencyError(NAME, error.reason) from error

    def _rejection(self, trade: Trade, error: ClientErrorResponse) -> Move:
        try:
            if error.status != 409:
                raise error
            return _move(trade, self._rejected.load(error.body))
        except (ClientErrorResponse, ValidationError, ValueError) as invalid:
            raise DependencyError(NAME, str(invalid)) from invalid


def _move(trade: Trade, answer: dict[str, Any]) -> Move:
    if answer["trade_id"] != trade.trade_id:
        raise ValueError("the response is for another trade")
    return Move(_STATES[answer["status"]], answer.get("code"), answer.get("detail"))
