"""The facts of an audit entry: the JSON text that is hashed."""

import json
from typing import Any

from gateway.trading.outbox import Entry
from gateway.trading.trade import State

#: types of the facts, by name; of texts that may be missing, None too
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
_NOTHING: dict[str, Any] = dict.fromkeys(_TYPES)


def write_facts(entry: Entry) -> str:
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
    """Return the facts in a text, each None if it is not what `write_facts` writes, and then why."""
    try:
        facts = json.loads(text)
    except (ValueError, RecursionError):
        return _NOTHING, "not JSON"
    if not isinstance(facts, dict) or facts.keys() != _TYPES.keys():
        return _NOTHING, "not the facts of a move"
    for name, kinds in _TYPES.items():
        value = facts[name]
        if not isinstance(value, kinds) or isinstance(value, bool) or not _can_be_sent(value):
            return _NOTHING, f"{name} is not what is recorded there"
    if facts["state"] not in State.__members__:
        return _NOTHING, "state is not one of a trade"
    return facts, None


def _can_be_sent(value: object) -> bool:
    """Return whether a fact is text that UTF-8 can carry, or a number that a client can read."""
    if isinstance(value, str):
        return not any("\ud800" <= each <= "\udfff" for each in value)
    return value is None or (isinstance(value, int) and abs(value) < 2**63)
