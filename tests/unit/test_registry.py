"""Registry: creation by name, conflicts of rules, and repr."""

from collections.abc import Callable

import pytest

from cb import ConfigError, Registry, State


def is_timeout(error: BaseException) -> bool:
    return isinstance(error, TimeoutError)


def slower_than(limit: int) -> Callable[[int], bool]:
    return lambda seconds: seconds > limit


def test_breaker_is_created_once_and_returned_by_name() -> None:
    registry = Registry()
    breaker = registry.get("vendor", failures=ConnectionError)
    assert registry.get("vendor") is breaker is registry.find("vendor")
    assert registry.find("other") is None


@pytest.mark.parametrize(
    ("first", "later"),
    [
        ({}, {"failures": ConnectionError}),
        ({"failures": ConnectionError}, {"failures": OSError}),
        ({"ignored": KeyError}, {"ignored": (KeyError, ValueError)}),
        ({"failures": is_timeout}, {"failures": Exception}),
        ({"failed_result": slower_than(1)}, {"failed_result": slower_than(2)}),
        ({}, {"ignored": LookupError}),
    ],
)
def test_get_with_other_rules_than_the_breaker_has_is_an_error(
    first: dict[str, object], later: dict[str, object]
) -> None:
    registry = Registry()
    breaker = registry.get("vendor", **first)  # type: ignore[arg-type]  # one of three keywords
    with pytest.raises(ConfigError, match=f"{next(iter(later))} must be what the breaker 'vendor' was created with"):
        registry.get("vendor", **later)  # type: ignore[arg-type]  # one of three keywords
    assert registry.get("vendor") is breaker


def test_get_with_the_same_rules_returns_the_breaker() -> None:
    registry = Registry()

    def get() -> object:
        return registry.get(
            "vendor", failures=(OSError,), ignored=lambda error: str(error) == "x", failed_result=slower_than(1)
        )

    assert get() is get()
    assert Registry().get("d", failures=Exception) and registry.get("e", failures=OSError) is registry.get(
        "e", failures=[OSError]
    )


def test_repr_names_the_number_of_breakers() -> None:
    registry = Registry()
    registry.get("vendor")
    assert repr(registry).startswith("<Registry of 1 breakers")
    assert [breaker.state for breaker in registry] == [State.CLOSED]
