"""The Idempotency-Key of a request: the same order sent twice is one trade.

As in draft-ietf-httpapi-idempotency-key-header-07 a key is a quoted string; bare ones are taken too. It belongs to the
user of the order, and stays with the trade for good. What identifies the request is the order itself, as stored.
"""

import re
from typing import Any

from servicekit.fields import Text


class IdempotencyKey(Text):
    """The key of a request, without its quotes."""

    pattern = re.compile(r'[A-Za-z0-9_.:-]{1,255}|"[A-Za-z0-9_.:-]{1,255}"', re.ASCII)
    rule = "must be 1 to 255 letters, digits, _, ., : or -, in quotes or without"

    def check(self, value: Any) -> str:
        return super().check(value).strip('"')
