"""Strict fields of JSON documents: no rounding, no text for numbers, no 1 for true."""

import re
from decimal import Decimal
from typing import Any, ClassVar, TypeVar

from marshmallow import ValidationError
from marshmallow.fields import Field

from cb.config import parse_duration
from cb.errors import ConfigError

from .ids import ID, ID_RULE, SYMBOL, SYMBOL_RULE

_AMOUNT = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]{1,4})?", re.ASCII)
_DATABASE = re.compile(r"sqlite:///[^?]+|postgresql\+psycopg://([^/@?]*@)?[^/@:?]*(:[0-9]{1,5})?/[^/?]+(\?.+)?")
_DIGITS = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)
#: a day in each unit that a duration may have
_DAY = {"ms": "86400000", "s": "86400", "m": "1440", "h": "24"}
_SMALLEST = Decimal("0.0001")
T = TypeVar("T")


class StrictField(Field[T]):
    """A field whose validation is one method."""

    def check(self, value: Any) -> T:
        """Validate and convert a value. Raises ValidationError."""
        raise NotImplementedError

    def json_schema(self, *, in_response: bool) -> dict[str, Any]:
        """Return the JSON Schema of the values that the field accepts, or, in a response, of those that it produces."""
        raise NotImplementedError

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> T:
        return self.check(value)


class Money(StrictField[Decimal]):
    """An exact amount with `digits` before the point and up to 4 after it.

    Requests may have a number or text, responses have text.
    """

    def __init__(self, *, min_exclusive: int | Decimal | None = 0, digits: int = 10, **options: Any) -> None:
        super().__init__(**options)
        self._floor = min_exclusive
        self._digits = digits

    def check(self, value: Any) -> Decimal:
        amount = _amount(value, self._digits)
        if amount is None:
            raise ValidationError(
                f"must be an amount with at most {self._digits} digits before the point and 4 after it"
            )
        if self._floor is not None and amount <= self._floor:
            raise ValidationError(f"must be more than {self._floor}")
        return amount

    def json_schema(self, *, in_response: bool) -> dict[str, Any]:
        sign = "-?" if self._floor is None else "" if in_response or self._floor else r"(?!0(\.0+)?$)"
        whole = f"(0|[1-9][0-9]{{0,{self._digits - 1}}})"
        if in_response:
            return {"type": "string", "pattern": rf"^{sign}{whole}\.[0-9]{{2,4}}$"}
        number: dict[str, Any] = {"type": "number", "exclusiveMaximum": 10**self._digits, "multipleOf": 0.0001}
        number["exclusiveMinimum"] = -(10**self._digits) if self._floor is None else self._floor
        return {"anyOf": [{"type": "string", "pattern": rf"^{sign}{whole}(\.[0-9]{{1,4}})?$"}, number]}

    def _serialize(self, value: Decimal | None, *_: Any, **__: Any) -> str | None:
        return None if value is None else money_text(value)


def money_text(amount: Decimal) -> str:
    """Return an amount with at least two decimals."""
    text = f"{amount:.4f}"
    return text[:-2] + text[-2:].rstrip("0")


def _amount(value: object, digits: int) -> Decimal | None:
    if isinstance(value, str):
        if not _AMOUNT.fullmatch(value):
            return None
    elif isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return None
    amount = Decimal(str(value) if isinstance(value, float) else value)
    # The size first: arithmetic with 1e99999999 would take very long.
    if not amount.is_finite() or (amount and not -5 < amount.adjusted() < digits):
        return None
    exact = amount.quantize(_SMALLEST)
    return exact if exact == amount else None


def _between(low: int, value: Any, high: int) -> bool:
    number = isinstance(value, int | float | Decimal) and not isinstance(value, bool)
    return number and low <= value <= high


class Whole(StrictField[int]):
    """A whole number from `low` to `high`. 10.0 is accepted, "10" and true are not."""

    def __init__(self, low: int, high: int, **options: Any) -> None:
        super().__init__(**options)
        self._low, self._high = low, high

    def check(self, value: Any) -> int:
        # Compared before it is converted: int(1e99999999) has that many digits.
        if not _between(self._low, value, self._high) or value != int(value):
            raise ValidationError(f"must be a whole number from {self._low} to {self._high}")
        return int(value)

    def json_schema(self, *, in_response: bool) -> dict[str, Any]:  # noqa: ARG002  # the same both ways
        return {"type": "integer", "minimum": self._low, "maximum": self._high}


class Digits(Whole):
    """A whole number as text, in a query."""

    def check(self, value: Any) -> int:
        return super().check(int(value) if _DIGITS.fullmatch(value) else None)


class Quantity(Whole):
    """A number of shares."""

    def __init__(self, **options: Any) -> None:
        super().__init__(1, 1_000_000, **options)


class Rate(StrictField[float]):
    """A number from 0 to 1."""

    def check(self, value: Any) -> float:
        if not _between(0, value, 1):
            raise ValidationError("must be a number from 0 to 1")
        return float(value)

    def json_schema(self, *, in_response: bool) -> dict[str, Any]:  # noqa: ARG002  # the same both ways
        return {"type": "number", "minimum": 0, "maximum": 1}


class Flag(StrictField[bool]):
    """True or false, and nothing that is merely truthy."""

    def check(self, value: Any) -> bool:
        if not isinstance(value, bool):
            raise ValidationError("must be true or false")
        return value

    def json_schema(self, *, in_response: bool) -> dict[str, Any]:  # noqa: ARG002  # the same both ways
        return {"type": "boolean"}


class Duration(StrictField[float]):
    """A duration in seconds, from a number of seconds or text such as 30s, 500ms, 2m, 1h. `zero` permits 0."""

    def __init__(self, *, zero: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self._zero = zero

    def check(self, value: Any) -> float:
        try:
            seconds = parse_duration(float(value) if isinstance(value, Decimal) else value, "")
        except ConfigError as error:
            raise ValidationError(f"must {error.rule}") from error
        if not (0 < seconds <= 86_400 or (self._zero and seconds == 0)):
            raise ValidationError(f"must be a duration {'from' if self._zero else 'above'} 0 and up to 24h")
        return seconds

    def json_schema(self, *, in_response: bool) -> dict[str, Any]:  # noqa: ARG002  # the same both ways
        units = "|".join(rf"0*({_below(day)}(\.[0-9]+)?|{day}(\.0+)?) ?{unit}" for unit, day in _DAY.items())
        some = "" if self._zero else "(?![0.]+ ?[a-z])"
        text = {"type": "string", "pattern": f"^{some}({units})$"}
        return {
            "anyOf": [text, {"type": "number", "minimum" if self._zero else "exclusiveMinimum": 0, "maximum": 86_400}]
        }


def _below(limit: str) -> str:
    """Return a pattern for the whole numbers below `limit`, which has two or more digits."""
    lower = [(limit[:at], int(digit), len(limit) - at - 1) for at, digit in enumerate(limit) if int(digit) > (not at)]
    same = [f"{begin}[{int(not begin)}-{digit - 1}][0-9]{{{rest}}}" for begin, digit, rest in lower]
    return f"([0-9]{{1,{len(limit) - 1}}}|{'|'.join(same)})"


class DatabaseURL(StrictField[str]):
    """The URL of a database: an SQLite file that all workers share, or a PostgreSQL server."""

    def check(self, value: Any) -> str:
        if not isinstance(value, str) or not _DATABASE.fullmatch(value) or value.endswith(":memory:"):
            raise ValidationError("must be sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST:PORT/NAME")
        return value


class Text(StrictField[str]):
    """Text that matches a pattern as a whole. The pattern uses the syntax that Python and ECMA-262 share."""

    pattern: ClassVar[re.Pattern[str]]
    rule: ClassVar[str]

    def check(self, value: Any) -> str:
        if not isinstance(value, str) or not self.pattern.fullmatch(value):
            raise ValidationError(self.rule)
        return value

    def json_schema(self, *, in_response: bool) -> dict[str, Any]:  # noqa: ARG002  # the same both ways
        return {"type": "string", "pattern": f"^({self.pattern.pattern})$"}


class Identifier(Text):
    """The id of a user or a trade."""

    pattern, rule = ID, ID_RULE


class Symbol(Text):
    """A symbol of an exchange, such as AAPL."""

    pattern, rule = SYMBOL, SYMBOL_RULE
