"""Registry: creation by name, conflicts of rules, and repr."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cb import BreakerConfig, ConfigError, Event, Ledger, Registry, State


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


@pytest.mark.parametrize("named", [False, True])
def test_get_with_a_config_creates_the_breaker_with_it_and_returns_it_again(named: bool) -> None:
    registry = Registry(defaults=BreakerConfig(timeout=9))
    breaker = (
        registry.get("vendor", config=BreakerConfig(timeout=5))
        if named
        else registry.get("vendor", BreakerConfig(timeout=5))
    )
    assert (breaker.config.timeout, registry.get("other").config.timeout) == (5, 9)
    assert registry.get("vendor") is registry.get("vendor", BreakerConfig(timeout=timedelta(seconds=5))) is breaker


@pytest.mark.parametrize(
    ("registry", "first", "value"),
    [
        (Registry(), BreakerConfig(timeout=5), "5.0, got 6.0"),
        (Registry(), None, "30.0, got 6.0"),
        (Registry(overrides={"vendor": BreakerConfig(timeout=7)}), None, "7.0, got 6.0"),
    ],
)
def test_get_with_another_config_than_the_breaker_has_is_an_error(
    registry: Registry, first: BreakerConfig | None, value: str
) -> None:
    breaker = registry.get("vendor", first)
    for _ in range(2):
        with pytest.raises(ConfigError, match=f"timeout must be what .* for 'vendor', {value}"):
            registry.get("vendor", BreakerConfig(timeout=6))
    assert registry.get("vendor") is breaker


def test_config_that_contradicts_the_overrides_creates_no_breaker() -> None:
    registry = Registry(overrides={"vendor": BreakerConfig(timeout=7)})
    with pytest.raises(ConfigError, match=r"timeout must be what the registry's overrides have for 'vendor', 7\.0"):
        registry.get("vendor", BreakerConfig(timeout=6))
    assert registry.find("vendor") is None
    assert registry.get("vendor", BreakerConfig(timeout=7)).config.timeout == 7


@pytest.mark.parametrize("wrong", [{"timeout": 3}, ConnectionError, 5])
def test_config_of_another_type_is_an_error(wrong: Any) -> None:
    registry = Registry()
    for _ in range(2):
        with pytest.raises(ConfigError, match=r"config must be a BreakerConfig, got"):
            registry.get("vendor", wrong)
        registry.get("vendor")


def test_pickled_registry_has_the_configs_given_to_get() -> None:
    registry = Registry()
    registry.get("vendor", BreakerConfig(timeout=5), failures=OSError)
    _, (_, make, arguments) = registry.__reduce__()
    assert make(*arguments).get("vendor", BreakerConfig(timeout=5), failures=OSError).config.timeout == 5


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


def test_function_around_a_variable_without_a_value_can_be_a_rule() -> None:
    registry = Registry()

    def rule() -> Callable[[object], bool]:
        def failed(result: object) -> bool:
            return result == later

        registry.get("vendor", failed_result=failed)
        later = 1
        return failed

    rule()
    with pytest.raises(ConfigError, match="failed_result must"):
        rule()


def test_repr_names_the_number_of_breakers() -> None:
    registry = Registry()
    registry.get("vendor")
    assert repr(registry).startswith("<Registry of 1 breaker,")
    assert [breaker.state for breaker in registry] == [State.CLOSED]


@contextmanager
def alarms(handler: Callable[[], object]) -> Iterator[None]:
    """Call a handler a thousand times a second."""
    before = signal.signal(signal.SIGALRM, lambda *_: handler())
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_signal_handler_that_gets_a_breaker_while_one_is_created_does_not_hang(tmp_path: Path) -> None:
    registry = Registry(ledger=Ledger.in_file(tmp_path / "l"))
    with alarms(lambda: registry.get("pager").call(int)):
        for number in range(300):
            registry.get(f"d{number}").call(int)
    assert registry.get("pager").snapshot().totals.successes > 0


def test_listener_that_calls_through_the_registry_while_it_creates_a_breaker_does_not_hang(tmp_path: Path) -> None:
    (tmp_path / "x.v3.ledger").write_text("foreign")
    told: list[Event] = []
    ledger = Ledger.open("shm://x", tmp_path)
    registry = Registry(ledger=ledger, listeners=[lambda event: registry.get("alerts").call(told.append, event)])
    registry.get("market").call(int)
    assert "market" in [event.name for event in told]
