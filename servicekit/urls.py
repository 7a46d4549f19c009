"""Passwords in URLs: between `:` and `@`, or in the query, as in `?ssl_password=`."""

import re
from collections.abc import Iterator
from urllib.parse import unquote, unquote_plus

_QUERY = r"[?&][a-z_]*(?:password|passwd|pwd)="
_HOLDS = re.compile(rf"://[^/@\s]*:[^/@\s]+@|{_QUERY}[^&]", re.IGNORECASE)
_USERINFO = re.compile(r"://[^:@/?#]*:(\S*)@")  # greedy, for a password may hold any of `/:?#@`
_VALUE = re.compile(rf"({_QUERY})([^&]+)", re.IGNORECASE)


def holds_password(text: str) -> bool:
    """Return True if a text contains a URL with a password."""
    return _HOLDS.search(text) is not None


def passwords(url: str) -> Iterator[str]:
    """Yield the passwords of a URL, as written there and decoded."""
    if found := _USERINFO.search(url):
        yield from {found[1], unquote(found[1])}
    for _, value in _VALUE.findall(url):
        yield from {value, unquote(value), unquote_plus(value)}


def without_passwords(text: str) -> str:
    """Remove possible passwords from a text with URLs. In doubt, more is removed."""
    return _VALUE.sub(r"\1***", re.sub("://.*@", "://***@", text))
