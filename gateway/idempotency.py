"""The Idempotency-Key of a request: the same order sent twice is one trade.

As in draft-ietf-httpapi-idempotency-key-header-07 a key is a quoted string; bare ones are taken too. It belongs to the
user of the order, and stays with the trade for good. What identifies the request is the order itself, as stored.
"""

import re

from cb.web import Problem

_KEY = re.compile(r'"?([A-Za-z0-9_.:-]{1,255})"?', re.ASCII)
_RULE = "must be 1 to 255 letters, digits, _, ., : or -, in quotes or without"


def read_key(header: str | None) -> str | None:
    """Return the key of a request, None if it has none. Raises Problem."""
    if header is None:
        return None
    found = _KEY.fullmatch(header)
    if not found or header.count('"') == 1:
        errors = [{"in": "header", "name": "Idempotency-Key", "detail": _RULE}]
        raise Problem(422, "invalid-idempotency-key", f"Idempotency-Key {_RULE}", errors=errors)
    return found[1]
