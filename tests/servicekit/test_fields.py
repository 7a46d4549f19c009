import json
from decimal import Decimal
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from marshmallow import Schema, ValidationError

from servicekit.fields import Duration, Flag, Identifier, Money, Quantity, Rate, Symbol


class PassthroughSchema(Schema):
    money = Money()
    any_money = Money(min_exclusive=None)
    much_money = Money(digits=15)
    quantity = Quantity()
    rate = Rate()
    flag = Flag()
    wait = Duration()
    id = Identifier()
    symbol = Symbol()


def load(field: str, value: object) -> Any:
    return PassthroughSchema().load({field: value})[field]


@pytest.mark.parametrize(
    ("value", "amount", "text"),
    [
        (150, "150", "150.00"),
        (Decimal("150.00"), "150", "150.00"),
        ("150.1", "150.1", "150.10"),
        ("0.0001", "0.0001", "0.0001"),
        ("1.230", "1.23", "1.23"),
        ("1.2340", "1.234", "1.234"),
        (Decimal("1.500000"), "1.5", "1.50"),
        (Decimal("15E1"), "150", "150.00"),
        ("9999999999.9999", "9999999999.9999", "9999999999.9999"),
        (0.1, "0.1", "0.10"),
    ],
)
def test_money_is_exact_on_its_way_in_and_text_on_its_way_out(value: object, amount: str, text: str) -> None:
    loaded = load("money", value)
    assert isinstance(loaded, Decimal)
    assert loaded == Decimal(amount)
    assert PassthroughSchema().dump({"money": loaded}) == {"money": text}


def test_money_has_as_many_digits_as_its_field_allows() -> None:
    assert load("much_money", "100000000000000.0001") == Decimal("100000000000000.0001")
    for value in ("1000000000000000", 10**15):
        with pytest.raises(ValidationError, match="at most 15 digits"):
            load("much_money", value)


@pytest.mark.parametrize("value", ["-1.50", 0])
def test_money_without_a_floor_may_be_negative_or_nothing(value: object) -> None:
    assert load("any_money", value) == Decimal(value)  # type: ignore[arg-type]  # any number will do


@pytest.mark.parametrize(
    ("field", "values"),
    [
        (
            "money",
            [
                "",
                "1.",
                ".5",
                "01",
                "1e3",
                "+1",
                " 1",
                "1\n",
                "\u0661",
                "NaN",
                "10000000000",
                "1.00001",
                -1,
                0,
                "0.0",
                True,
                [],
            ],
        ),
        ("money", [float("nan"), float("inf"), Decimal("NaN"), Decimal("1e99999999"), Decimal("1e-99999999"), 10**400]),
        ("money", [10_000_000_000, Decimal("1E10"), Decimal("1.00005"), Decimal("0.99999"), 0.00001]),
        ("quantity", ["10", True, 0, -1, 1.5, 1_000_001, float("nan"), Decimal("1e99999999"), 10**400, {}]),
        ("rate", ["0.5", True, -0.1, 1.1, float("nan"), Decimal("1e99999999"), 10**400]),
        ("flag", [0, 1, "true", "yes"]),
        ("wait", ["soon", 0, -1, "25h", True, []]),
        ("id", ["", "..", "a/b", "a b", "a\n", "ä", "a" * 65, 5]),
        ("symbol", ["", "aapl", "1A", "A" * 13, "A\n", "..", 5]),
    ],
)
def test_value_that_only_resembles_another_is_refused(field: str, values: list[object]) -> None:
    for value in values:
        with pytest.raises(ValidationError, match="must be"):
            load(field, value)


@pytest.mark.parametrize(
    ("field", "value", "loaded"),
    [
        ("quantity", 10, 10),
        ("quantity", Decimal("10.0"), 10),
        ("rate", Decimal("0.7"), 0.7),
        ("rate", 1, 1.0),
        ("flag", False, False),
        ("wait", "500ms", 0.5),
        ("id", "user_1-A", "user_1-A"),
        ("symbol", "BRK.B", "BRK.B"),
    ],
)
def test_valid_value_is_loaded_without_loss(field: str, value: object, loaded: object) -> None:
    found = load(field, value)
    assert (found, type(found)) == (loaded, type(loaded))


def odd_values() -> st.SearchStrategy[Any]:
    """Return values at the limits of all fields, and values that resemble valid ones."""
    numbers = st.one_of(st.integers(-2, 2**70), st.integers(0, 10**6).map(lambda n: n / 10_000), st.floats(0, 1e16))
    units = st.sampled_from(["", "ms", "s", "m", "h", " s", "  s", "d", "S"])
    digits = st.text("019.-+e_ \n\u0661", max_size=8)
    near = st.sampled_from(
        ["0", "1", "23.9", "24", "24.0", "24.01", "1440", "1440.0", "1441", "86400", "86401", "86400000"]
    )
    texts = st.builds(str.__add__, digits | near | st.just("0" * 9 + "1.50"), units)
    names = st.text("aZ09_-.\n\u00df", max_size=70) | st.sampled_from(["A" * 12, "A" * 13, "a" * 64, "a" * 65, "A\n"])
    limits = st.sampled_from([10**10, 10**15, -(10**15), 9999999999.9999, 0.00001, 86400.5, 2**70, "1.00001", "0.0000"])
    return limits | numbers | texts | names | st.booleans() | st.lists(st.just(1), max_size=1)


@given(odd_values())
@settings(max_examples=600, deadline=None)
def test_field_accepts_exactly_the_values_of_its_json_schema(value: Any) -> None:
    for name, field in PassthroughSchema().fields.items():
        # As it arrives: fractions are Decimals.
        arrived = json.loads(json.dumps(value), parse_float=Decimal)
        assert takes(field, arrived) == SCHEMAS[name].is_valid(value), (name, value)


def takes(field: Any, value: Any) -> bool:
    try:
        field.deserialize(value)
    except ValidationError:
        return False
    return True


SCHEMAS = {
    name: jsonschema_rs.validator_for(field.json_schema(in_response=False))  # type: ignore[attr-defined]  # all are StrictField
    for name, field in PassthroughSchema().fields.items()
}


@pytest.mark.parametrize("name", ["money", "any_money", "much_money"])
@pytest.mark.parametrize("amount", ["1", "0.0001", "12.5", "9999999999.9999"])
def test_serialized_money_matches_its_json_schema(name: str, amount: str) -> None:
    field: Money = PassthroughSchema().fields[name]  # type: ignore[assignment]  # these are
    answered = jsonschema_rs.validator_for(field.json_schema(in_response=True))
    assert answered.is_valid(field.serialize("m", {"m": Decimal(amount)}))
    assert not answered.is_valid(1) and not answered.is_valid("1")
