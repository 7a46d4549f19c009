"""Names that come from outside, allow-listed before anything is done with them.

`..` as a user id would rewrite the path of a call to another service, even quoted.
"""

import re

from .parameters import invalid_parameter

ID = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
ID_RULE = "must be 1 to 64 letters, digits, _ or -"
SYMBOL = re.compile(r"[A-Z][A-Z0-9.-]{0,11}", re.ASCII)
SYMBOL_RULE = "must be a capital letter and up to 11 more capital letters, digits, . or -"


def check_id(name: str, value: str, *, where: str = "path") -> str:
    """Return a well-formed id from a path or a query. Raises Problem."""
    return _check(name, value, ID, ID_RULE, where)


def check_symbol(name: str, value: str) -> str:
    """Return a well-formed symbol from a path. Raises Problem."""
    return _check(name, value, SYMBOL, SYMBOL_RULE, "path")


def _check(name: str, value: str, pattern: re.Pattern[str], rule: str, where: str) -> str:
    if not pattern.fullmatch(value):
        raise invalid_parameter(where, name, rule)
    return value
