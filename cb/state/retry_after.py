"""Retry-After: the header of a response, and the attribute `retry_after` of an exception."""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta

from cb.clocks import wall

from .outcome import causes, leaves

#: longest wait in seconds; stands for every longer one, as in RFC 9111, 1.2.2
LONGEST = float(1 << 31)
#: longest part of a header that is read, in characters
_LONGEST_TEXT = 1000
# Patterns are compiled when they are first used: `import cb` is measured.
_SECONDS = r"[0-9]+(\.[0-9]*)?"
_LEAP_SECOND = r"(?a)(?<=:[0-9]{2}:)60\b"
_WEEKDAY = r"(?ai)\s*(Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*"


def of_headers(headers: Mapping[str, str]) -> float | None:
    """Return the seconds of Retry-After, at most LONGEST; None without a valid one.

    Each proxy may add a line of its own: the longest wait counts, since it satisfies the others.
    """
    return parse(", ".join(_text(value) for name, value in headers.items() if _text(name).lower() == "retry-after"))


def parse(text: str) -> float | None:
    """Return the seconds of a header's value, None if it is invalid.

    Seconds may have a fraction. Dates have any form of RFC 9110, 5.6.7, and are in GMT; a past date is 0 s.
    """
    waits = [wait for each in _members(text[:_LONGEST_TEXT]) if (wait := _seconds(each)) is not None]
    return min(max(waits), LONGEST) if waits else None


def of_error(error: BaseException | None) -> float:
    """Return the longest `retry_after` of an exception, its causes and the members of a group, in seconds; 0 if none.

    A `retry_after` may be a number of any kind, a timedelta, a datetime (of UTC, if it names no zone), or text as in
    a header.
    """
    if error is None:
        return 0.0
    return max(_seconds_of(each) for member in (error, *leaves(error)) for each in (member, *causes(member)))


def _seconds_of(error: BaseException) -> float:
    try:
        seconds = _value(getattr(error, "retry_after", None))
    except OverflowError:
        return LONGEST
    except Exception:  # noqa: BLE001 - a property that fails must not hide the caller's own exception
        return 0.0
    return min(seconds, LONGEST) if seconds > 0 else 0.0


def _value(value: object) -> float:
    if isinstance(value, str | bytes):
        return parse(_text(value)) or 0.0
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, datetime):
        return _until(value)
    if isinstance(value, bool) or not hasattr(type(value), "__float__"):
        return 0.0
    return float(value)  # type: ignore[arg-type]  # its type has __float__


def _members(text: str) -> Iterator[str]:
    """Yield the members of a list, in which dates may have a comma after the day of the week."""
    day = ""
    for piece in text.split(","):
        if not day and re.fullmatch(_WEEKDAY, piece):
            day = piece
            continue
        yield f"{day},{piece}".strip() if day else piece.strip()
        day = ""


def _seconds(text: str) -> float | None:
    if re.fullmatch(_SECONDS, text):
        return float(text)
    from email.utils import parsedate_to_datetime  # not above: of all that `import cb` loads, it takes the longest

    try:
        return max(_until(parsedate_to_datetime(re.sub(_LEAP_SECOND, "59", text))), 0.0)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _until(at: datetime) -> float:
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() - wall()


def _text(value: object) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)
