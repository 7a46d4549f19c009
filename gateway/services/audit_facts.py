"""The facts of an audit entry: the JSON text that is hashed."""

import json
from typing import Any

from gateway.trading.outbox import OutboxEntry
from gateway.trading.trade import TradeState

#: types of the facts, by name
_TYPES: dict[str, type | tuple[type, ...]] = {
    "tradeId": str,
    "seq": int,
    "userId": str,
    "symbol": str,
    "quantity": int,
    "orderType": str,
    "price": str,
    "state": str,
    "code": (str, type(None)),
    "detail": (str, type(None)),
    "at": str,
}
_NO_FACTS: dict[str, Any] = dict.fromkeys(_TYPES)


def write_facts(entry: OutboxEntry) -> str:
    """Return the text of a move."""
    order = entry.order
    facts = {
        "tradeId": entry.trade_id,
        "seq": entry.seq,
        "userId": order.user_id,
        "symbol": order.symbol,
        "quantity": order.quantity,
        "orderType": order.side,
        "price": str(order.price),
        "state": entry.state,
        "code": entry.code,
        "detail": entry.detail,
        "at": entry.at.isoformat(),
    }
    return json.dumps(facts, sort_keys=True, separators=(",", ":"))


def read_facts(text: str) -> tuple[dict[str, Any], str | None]:
    """Return the facts in a text and None, or facts that are all None and the damage."""
    try:
        facts = json.loads(text)
    except (ValueError, RecursionError):
        return _NO_FACTS, "not JSON"
    if not isinstance(facts, dict) or facts.keys() != _TYPES.keys():
        return _NO_FACTS, "not the facts of a move"
    for name, kinds in _TYPES.items():
        value = facts[name]
        if not isinstance(value, kinds) or isinstance(value, bool) or not _is_representable(value):
            return _NO_FACTS, f"invalid {name}"
    if facts["state"] not in TradeState.__members__:
        return _NO_FACTS, "invalid state"
    return facts, None


def _is_representable(value: object) -> bool:
    """Return True if a response can hold the value: text without lone surrogates, or a 64-bit integer."""
    if isinstance(value, str):
        return not any("\ud800" <= each <= "\udfff" for each in value)
    return value is None or (isinstance(value, int) and abs(value) < 2**63)
