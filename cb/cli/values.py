"""Types of the arguments of the command `cb`. Each raises ArgumentTypeError for text that breaks its rule."""

import argparse
import math
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import fields
from datetime import datetime

from cb.clocks import wall
from cb.config import BreakerConfig, parse_duration
from cb.errors import ConfigError
from cb.ledger.names import check_author, check_reason
from cb.ledger.time_bounds import MAX_HOLD_SECONDS

_SETTINGS = frozenset(field.name for field in fields(BreakerConfig))
_SIZES = {"d": 86_400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
#: largest unit first, each at most once, such as 1d12h
_UNITS = re.compile("".join(rf"(?:([0-9]+(?:\.[0-9]+)?) ?{unit} ?)?" for unit in _SIZES), re.ASCII)
_SPAN = "be a time such as 15m, 1h30m, 1d12h or 3d"


def span(text: str) -> float:
    """Return the seconds of a time span such as `90`, `15m`, `1h30m` or `3d`."""
    try:
        return parse_duration(float(text) if text.isdecimal() else _in_seconds(text), "TIME")
    except ConfigError as error:
        raise argparse.ArgumentTypeError(f"must {_SPAN}, got {text!r}") from error


def hold(text: str) -> float:
    """Return the seconds of a span that is no longer than an operator's state may last."""
    seconds = span(text)
    if not 0 < seconds <= MAX_HOLD_SECONDS:
        raise argparse.ArgumentTypeError(f"must be above 0 and at most 30 days, got {text!r}")
    return seconds


def moment(text: str) -> float:
    """Return seconds since the epoch, of a span before now or of a time as `cb events` prints it."""
    try:
        at = datetime.fromisoformat(text.strip())
    except ValueError:
        try:
            return wall() - span(text)
        except argparse.ArgumentTypeError as error:
            rule = "must be a time such as 1h, 3d, 2026-12-01 or '2026-12-01 03:04:05+01:00'"
            raise argparse.ArgumentTypeError(f"{rule}, got {text!r}") from error
    try:
        return at.timestamp()
    except (OverflowError, OSError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"must be a time of this age, got {text!r}") from error


def setting(text: str) -> tuple[str, object]:
    """Return name and value of SETTING=VALUE."""
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise argparse.ArgumentTypeError("must be SETTING=VALUE")
    if name not in _SETTINGS:
        raise argparse.ArgumentTypeError(f"{name} is not one of {', '.join(sorted(_SETTINGS))}")
    if value == "none":
        return name, None
    for number in (int, float):
        with suppress(ValueError):
            return name, number(value)
    try:
        parse_duration(value, name)
    except ConfigError:
        return name, _in_seconds(value)
    return name, value  # an error about it then shows it as it was typed


def count(text: str) -> int:
    """Return a whole number, at least 1."""
    if not text.isdecimal() or not 1 <= float(text) < math.inf:
        raise argparse.ArgumentTypeError("must be a whole number, at least 1")
    return int(text)


def reason(text: str) -> str:
    """Return a reason that fits the log."""
    return _checked(check_reason, text)


def author(text: str) -> str:
    """Return an author who fits the log."""
    return _checked(check_author, text)


def _checked(check: Callable[[str], None], text: str) -> str:
    try:
        check(text)
    except ConfigError as error:
        raise argparse.ArgumentTypeError(f"must {error.rule}") from error
    return text


def _in_seconds(text: str) -> float | str:
    """Return the seconds of a number of units, and any other text as it is."""
    match = _UNITS.fullmatch(text)
    if not text or match is None:
        return text
    return sum(float(number) * size for number, size in zip(match.groups(), _SIZES.values(), strict=True) if number)
