"""Where a page of trades ends: the moment and the id of its last trade."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

from marshmallow import ValidationError

from gateway.trading.trade import Trade
from servicekit.fields import StrictField

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: when a trade was placed, and its id
Moment = tuple[datetime, str]


_CURSOR = re.compile(r"([0-9]{1,16})\.([A-Za-z0-9_-]{1,64})", re.ASCII)


class TradeCursor(StrictField[Moment]):
    """Microseconds since the epoch, and the id of a trade."""

    def check(self, value: Any) -> Moment:
        found = _CURSOR.fullmatch(value)
        if not found:
            raise ValidationError("must be what an earlier page gave as next")
        return _EPOCH + timedelta(microseconds=int(found[1])), found[2]

    def json_schema(self, *, answered: bool) -> dict[str, Any]:  # noqa: ARG002  # the same both ways
        return {"type": "string", "pattern": f"^{_CURSOR.pattern}$"}

    @staticmethod
    def text(trade: Trade) -> str:
        """Return the cursor behind a trade."""
        return f"{(trade.created_at - _EPOCH) // timedelta(microseconds=1)}.{trade.trade_id}"
