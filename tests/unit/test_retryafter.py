"""Retry-After in all its forms: headers, and attributes of exceptions."""

import os
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from email.message import Message
from fractions import Fraction

import pytest
from freezegun import freeze_time

from cb.state.retry_after import LONGEST, of_error, of_headers, parse

NOON = "2026-12-01T12:00:00+00:00"


@pytest.fixture(params=["UTC", "Asia/Tokyo", "America/New_York"])
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Have the host in another zone of time."""
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield os.environ["TZ"]
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("zone")
@pytest.mark.parametrize(
    "text",
    [
        "Tue, 01 Dec 2026 12:02:00 GMT",
        "Tuesday, 01-Dec-26 12:02:00 GMT",
        "Tue Dec  1 12:02:00 2026",
        "Tue, 01 Dec 2026 12:02:00 -0000",
        "Tue, 01 Dec 2026 12:02:00",
        "Tue, 01 Dec 2026 21:02:00 +0900",
        "01 Dec 2026 12:02:00 GMT",
        "Tue, 01 Dec 2026 12:01:60 GMT",
    ],
)
def test_date_of_any_form_is_of_gmt_wherever_the_host_is(text: str) -> None:
    with freeze_time(NOON):
        assert parse(text) in (120.0, 119.0)  # a leap second is the second before it


@pytest.mark.usefixtures("zone")
def test_datetime_of_an_exception_is_of_gmt_unless_it_names_a_zone() -> None:
    error = Asking()
    with freeze_time(NOON):
        for at in (
            datetime(2026, 12, 1, 12, 2),  # noqa: DTZ001 - the subject
            datetime(2026, 12, 1, 12, 2, tzinfo=UTC),
            datetime(2026, 12, 1, 7, 2, tzinfo=timezone(timedelta(hours=-5))),
        ):
            error.retry_after = at
            assert of_error(error) == 120.0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("120", 120.0),
        (" 120 ", 120.0),
        ("\t120", 120.0),
        ("120.0", 120.0),
        ("0.5", 0.5),
        ("7.", 7.0),
        ("0", 0.0),
        ("007", 7.0),
        ("120, 120", 120.0),
        ("3, 120", 120.0),
        ("120,3", 120.0),
        ("120, soon", 120.0),
        ("soon, 120", 120.0),
        (", 120", 120.0),
        ("-5, 120", 120.0),
        ("Tue, 01 Dec 2026 12:02:00 GMT, 3", 120.0),
        ("3, Tue, 01 Dec 2026 12:02:00 GMT", 120.0),
        ("Tue, 01 Dec 2026 12:02:00 GMT, Tue, 01 Dec 2026 12:03:00 GMT", 180.0),
        ("Tue, 01 Dec 2026 11:00:00 GMT", 0.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ("9" * 12, LONGEST),
        ("9" * 900, LONGEST),
        ("Fri, 31 Dec 9999 23:59:59 GMT", LONGEST),
    ],
)
def test_valid_header_is_parsed_as_seconds(text: str, seconds: float) -> None:
    with freeze_time(NOON):
        assert parse(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        ",",
        "soon",
        "-5",
        "+5",
        "1e3",
        "0x10",
        "1_000",
        "nan",
        "inf",
        "\uff11\uff12\uff10",
        "²",
        "120 s",
        "12 34",
        "\x00",
        "Tue",
        "Tue, 99 Dec 2026 99:99:99 GMT",
        "Fri, 31 Dec 10000 23:59:59 GMT",
        "2026-12-01",
        "Mon," * 100,
        "(" * 5000,
    ],
)
def test_invalid_header_is_ignored(text: str) -> None:
    assert parse(text) is None


def test_header_is_found_however_it_is_spelled_and_repeated() -> None:
    lines = Message()
    lines["retry-after"] = "3"
    lines["Retry-After"] = "120"
    assert of_headers(lines) == 120.0  # type: ignore[arg-type]  # as http.client has it
    assert of_headers({"RETRY-AFTER": "7"}) == 7.0
    assert of_headers({"Retry-After": b"7"}) == 7.0  # type: ignore[dict-item]  # as a test double has it
    assert of_headers({"Retry-After": 7}) == 7.0  # type: ignore[dict-item]  # the same
    assert of_headers({}) is None


class Asking(Exception):
    retry_after: object = None


class Lying(Exception):
    @property
    def retry_after(self) -> float:
        raise KeyError


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (5, 5.0),
        (5.5, 5.5),
        (Decimal("5.5"), 5.5),
        (Fraction(11, 2), 5.5),
        (timedelta(minutes=2), 120.0),
        ("120", 120.0),
        (b"120", 120.0),
        (float("inf"), LONGEST),
        (10**400, LONGEST),
        (timedelta.max, LONGEST),
        (True, 0.0),
        (-5, 0.0),
        (timedelta(-1), 0.0),
        (float("nan"), 0.0),
        (Decimal("sNaN"), 0.0),
        ("soon", 0.0),
        (date(2030, 1, 1), 0.0),
        ([120], 0.0),
        (1j, 0.0),
        (None, 0.0),
    ],
)
def test_retry_after_of_an_exception_may_be_of_any_kind(value: object, seconds: float) -> None:
    error = Asking()
    error.retry_after = value
    assert of_error(error) == seconds
    assert of_error(ExceptionGroup("two", [KeyError(), ExceptionGroup("one", [error])])) == seconds


def test_exception_whose_retry_after_raises_has_none() -> None:
    assert of_error(Lying()) == of_error(KeyError()) == of_error(None) == 0.0


def test_retry_after_of_causes_and_of_members_of_a_group_counts() -> None:
    def asking(seconds: float, cause: BaseException | None = None) -> Asking:
        error = Asking()
        error.retry_after, error.__cause__ = seconds, cause
        return error

    assert of_error(asking(3, asking(120))) == 120.0
    assert of_error(ExceptionGroup("g", [KeyError(), asking(3), asking(0, asking(60))])) == 60.0
    assert of_error(None) == 0.0
