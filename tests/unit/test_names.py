"""Limits of names, reasons and authors: errors name them, and generated names are shortened to fit."""

import pytest

from cb import BreakerConfig, CircuitBreaker, ConfigError, Ledger, State
from cb.ledger.names import LONGEST_NAME, check_name, fitting_name

MADE_UP = [
    "",
    "x" * 129,
    "https://" + ".".join(["a" * 60] * 4) + ":443",
    "http://b\u00fccher.example:80" * 5,
    "\u20ac" * 43,
    "line\nline",
    "tab\there",
    "\ud800",
    "nul\0",
    "\u202egnp.exe",
    "x" * 1_000_000,
]


@pytest.fixture
def breaker() -> CircuitBreaker:
    return CircuitBreaker("d", ledger=Ledger.in_memory())


@pytest.mark.parametrize("text", MADE_UP, ids=range(len(MADE_UP)))
def test_invalid_text_is_made_a_valid_name(text: str) -> None:
    name = fitting_name(text)
    check_name(name)
    assert len(name.encode()) <= LONGEST_NAME
    assert CircuitBreaker(name).call(int) == 0


def test_texts_that_differ_only_in_removed_characters_get_different_names() -> None:
    assert len({fitting_name(text) for text in (*MADE_UP, "x" * 130, "line\rline")}) == len(MADE_UP) + 2


@pytest.mark.parametrize("name", ["d", "http://[fe80::1%25eth0]:80", "x" * 128, "caf\u00e9"])
def test_valid_text_stays_unchanged(name: str) -> None:
    assert fitting_name(name) == name


@pytest.mark.parametrize("author", ["", " ", "a" * 161, "a" * 100_000, 7])
@pytest.mark.parametrize("act", ["disable", "reset", "configure"])
def test_author_beyond_bounds_is_refused_and_changes_nothing(breaker: CircuitBreaker, author: str, act: str) -> None:
    acts = {
        "disable": lambda: breaker.control.disable(reason="test", author=author),
        "reset": lambda: breaker.control.reset(reason="test", author=author),
        "configure": lambda: breaker.control.configure(author=author, max_requests=4),
    }
    with pytest.raises(ConfigError, match="author must be text of 1 to 160 characters, got") as caught:
        acts[act]()
    assert len(str(caught.value)) < 400
    assert (breaker.state, breaker.config, breaker.ledger.history()) == (State.CLOSED, BreakerConfig(), [])


@pytest.mark.parametrize("reason", ["", " ", "r" * 201, "r" * 100_000, None])
def test_reason_beyond_bounds_is_refused_and_changes_nothing(breaker: CircuitBreaker, reason: str) -> None:
    for act in (breaker.control.reset, breaker.control.disable):
        with pytest.raises(ConfigError, match="reason must be text of 1 to 200 characters, got") as caught:
            act(reason=reason)
        assert len(str(caught.value)) < 400
    assert (breaker.state, breaker.ledger.history()) == (State.CLOSED, [])


def test_log_has_both_reason_and_author_however_long_they_are(breaker: CircuitBreaker) -> None:
    change = breaker.control.disable(reason="\u20ac" * 200, author="\u00fc" * 160)
    assert change.reason.startswith("\u20ac" * 25)
    assert change.reason.endswith("\u00fc" * 25 + ")")
    assert breaker.ledger.history()[-1].reason == change.reason


@pytest.mark.parametrize("value", ["x" * 100_000, ["x"] * 100_000, 10**4000])
def test_error_of_a_huge_value_is_short_and_has_the_value(value: object) -> None:
    with pytest.raises(ConfigError) as caught:
        BreakerConfig.parse({"timeout": value})
    assert len(str(caught.value)) < 400
    assert caught.value.value == value
    with pytest.raises(ConfigError) as caught:
        BreakerConfig.parse({str(value): 1})
    assert len(str(caught.value)) < 1000


def test_reason_that_is_no_unicode_is_written_with_a_replacement(breaker: CircuitBreaker) -> None:
    breaker.control.force_open(reason="\ud800", author="alice")
    assert breaker.explain() == "forced open: ? (by alice); until reset"
