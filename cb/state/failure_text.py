"""The description of an exception: class, HTTP status, and the first line of its message without credentials."""

import re
import threading
from collections.abc import Mapping
from functools import lru_cache

#: longest part of a message that is examined, in characters
_LONGEST = 500
_MASK = "***"
# Patterns are compiled when they are first used: `import cb` is measured.
_USER = r"(?<=//)[^\s/@]+@"
_QUERY = r"(?<=\S)\?[^\s'\")>]+"
_NAMES = ("passw", "pwd", "secret", "token", "key", "auth", "credential", "signature", "bearer", "basic", "cookie")
_VALUE = r"""(?ix)
    (?P<name>[\w-]*(?:passw(?:or)?d|pwd|secret|token|api[_-]?key|authorization|credentials?|signature|cookie)\b
    ['"]?\s*[=:]\s*)(?:(?:Bearer|Basic)\s+)?(?:"[^"]*"|'[^']*'|[^\s,;&'")]+)"""
_BEARER = r"(?i)\b(Bearer|Basic)\s+[^\s,;'\"]+"
_running = threading.local()


def describe(error: BaseException) -> tuple[str, int | None, str]:
    """Return class name, HTTP status and first line of an exception. Raises no Exception.

    The exception may run code of the user, which may raise, or call through the breaker: a description within a
    description has no message. The caller holds no lock.
    """
    kind = type(error).__name__
    inside: dict[str, bool] = _running.__dict__
    if inside:
        return kind, None, ""
    inside["running"] = True
    try:
        return kind, _status(error), first_line(str(error))
    except Exception:  # noqa: BLE001 - of the user's own method
        return kind, None, ""
    finally:
        inside.clear()


def first_line(text: str) -> str:
    """Return the first line of a text that is not blank, printable and without credentials."""
    return _first_line(text[:_LONGEST])


@lru_cache(maxsize=64)  # a dependency that is down fails with the same words
def _first_line(text: str) -> str:
    line = text.strip()
    if not line.isprintable():
        line = (line.splitlines() or [""])[0].rstrip()
    if "@" in line:
        line = re.sub(_USER, f"{_MASK}@", line)
    if "?" in line:
        line = re.sub(_QUERY, f"?{_MASK}", line)
    if any(map(line.lower().__contains__, _NAMES)):
        line = re.sub(_BEARER, rf"\1 {_MASK}", re.sub(_VALUE, rf"\g<name>{_MASK}", line))
    return line if line.isprintable() else "".join(each if each.isprintable() else "?" for each in line)


def _status(error: BaseException) -> int | None:
    """Return the HTTP status of an exception of requests, httpx, aiohttp, urllib, botocore or this library."""
    if type(error).__module__ == "builtins":  # the code of SystemExit is no status
        return None
    response = getattr(error, "response", None)
    if isinstance(response, Mapping):
        response = response.get("ResponseMetadata")
        found = [response.get("HTTPStatusCode")] if isinstance(response, Mapping) else []
    else:
        found = [getattr(response, "status_code", None)] if response is not None else []
    found += [getattr(error, name, None) for name in ("status", "status_code", "code")]
    return next((int(each) for each in found if isinstance(each, int) and 100 <= each <= 599), None)
