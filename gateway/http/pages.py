"""Paginated lists: `limit` entries per page and a cursor to the next page."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from urllib.parse import urlencode

from flask import request
from marshmallow import ValidationError, fields

from gateway.trading.trade import Trade
from servicekit import ResponseSchema, ResponseSpec
from servicekit.fields import Digits, StrictField

_DEFAULT_LIMIT, _MAX_LIMIT = 50, 200
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TRADE_CURSOR = re.compile(r"([0-9]{1,16})\.([A-Za-z0-9_-]{1,64})", re.ASCII)
#: creation time and id of a trade
TradePosition = tuple[datetime, str]
T = TypeVar("T")


class PageSchema(ResponseSchema):
    """One page of a list."""

    next = fields.String(
        required=True,
        allow_none=True,
        metadata={"description": "The value of `after` for the next page; null on the last page."},
    )


class TradeCursor(StrictField[TradePosition]):
    """A cursor: the creation time of a trade in microseconds since the epoch, a dot, and its id."""

    def check(self, value: Any) -> TradePosition:
        found = _TRADE_CURSOR.fullmatch(value)
        if not found:
            raise ValidationError("must be the `next` of an earlier page")
        return _EPOCH + timedelta(microseconds=int(found[1])), found[2]

    def json_schema(self, *, in_response: bool) -> dict[str, Any]:  # noqa: ARG002  # the same both ways
        return {"type": "string", "pattern": f"^{_TRADE_CURSOR.pattern}$"}

    @staticmethod
    def text(trade: Trade) -> str:
        """Return the cursor of the page that follows a trade."""
        return f"{(trade.created_at - _EPOCH) // timedelta(microseconds=1)}.{trade.trade_id}"


def paged(after: StrictField[Any], **filters: StrictField[Any]) -> dict[str, StrictField[Any]]:
    """Return the query parameters of a list: its filters, `limit` and `after`."""
    about = {"description": "Maximum number of entries in the page."}
    return {**filters, "limit": Digits(1, _MAX_LIMIT, load_default=_DEFAULT_LIMIT, metadata=about), "after": after}


def number_cursor() -> Digits:
    """Return a cursor that is the number of an entry."""
    return Digits(0, 10**18 - 1, load_default=None, metadata=AFTER)


AFTER = {"description": "The `next` of an earlier page."}
_LINK = {"Link": 'The next page, as `<...>; rel="next"`; absent on the last page.'}


def page_response(description: str, schema: PageSchema) -> ResponseSpec:
    """Return the documented response of a list."""
    return ResponseSpec(description, schema, headers=_LINK)


def page(name: str, entries: list[T], limit: int, cursor: Callable[[T], object]) -> Any:
    """Return a page of `entries`, which holds one more than `limit` if there is a next page.

    `cursor` returns the value of `after` for the page that follows an entry.
    """
    shown, headers, following = entries[:limit], {}, None
    if len(entries) > limit:
        following = str(cursor(shown[-1]))
        link = f"{request.path}?{urlencode({**request.args, 'after': following})}"
        headers = {"Link": f'<{link}>; rel="next"'}
    return {name: shown, "next": following}, 200, headers
