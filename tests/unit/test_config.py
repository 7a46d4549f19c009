"""Thresholds are checked once, and the error names field, rule and value."""

import json
import pickle
from dataclasses import asdict, replace
from datetime import timedelta
from typing import Any

import pytest

from cb import BreakerConfig, CircuitBreaker, CircuitError, ConfigError, State, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30), ("500ms", 0.5), ("2m", 120), ("1h", 3600), ("1.5s", 1.5), (3, 3), (0.25, 0.25)]
)
def test_duration_is_read_as_seconds(text: object, seconds: float) -> None:
    assert parse_duration(text, "timeout") == seconds


@pytest.mark.parametrize("text", ["", "30", "s", "-1s", "1 day", "٣s", "1s\n", None, True, [], "1e3s"])
def test_duration_that_is_none_is_refused(text: object) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_duration(text, "timeout")
    assert (refused.value.field, refused.value.value) == ("timeout", text)


def test_defaults_are_those_of_the_seed() -> None:
    config = BreakerConfig()
    assert (config.max_requests, config.interval, config.timeout) == (5, 60, 30)
    assert (config.failure_threshold, config.success_threshold) == (10, 3)
    assert (config.failure_rate_threshold, config.minimum_requests) == (0.6, 5)


@pytest.mark.parametrize(
    ("settings", "duration", "rate"),
    [
        ({}, 2.0, None),
        ({"slow_call_duration": 1}, 1.0, 0.8),
        ({"slow_call_duration": 2}, 2.0, 0.8),
        ({"slow_call_rate_threshold": 0.5}, 2.0, 0.5),
        ({"slow_call_duration": 1, "slow_call_rate_threshold": None}, 1.0, None),
        ({"slow_call_rate_threshold": None}, 2.0, None),
    ],
)
def test_slow_calls_open_a_circuit_only_where_a_setting_asks_for_them(
    settings: dict[str, Any], duration: float, rate: float | None
) -> None:
    for config in (BreakerConfig(**settings), BreakerConfig.parse(settings)):
        assert (config.slow_call_duration, config.slow_call_rate_threshold) == (duration, rate)
        assert BreakerConfig(**json.loads(json.dumps(asdict(config)))) == config
        assert pickle.loads(pickle.dumps(config)) == config


def test_override_that_names_a_slow_duration_asks_for_slow_calls_unless_the_defaults_have_declined_them() -> None:
    override = {"slow_call_duration": "6s"}
    assert BreakerConfig.parse(override, BreakerConfig(timeout=5)).slow_call_rate_threshold == 0.8
    assert BreakerConfig.parse(override, replace(BreakerConfig(), timeout=5)).slow_call_rate_threshold == 0.8
    assert BreakerConfig.parse(override, BreakerConfig(slow_call_rate_threshold=0.3)).slow_call_rate_threshold == 0.3
    declined = BreakerConfig(slow_call_duration=1, slow_call_rate_threshold=None)
    assert BreakerConfig.parse(override, declined).slow_call_rate_threshold is None
    assert BreakerConfig.parse({"timeout": "5s"}).slow_call_rate_threshold is None


def test_parsed_settings_change_the_defaults_given() -> None:
    defaults = BreakerConfig(timeout=5)
    config = BreakerConfig.parse({"interval": "10s", "failure_threshold": None}, defaults)
    assert (config.interval, config.timeout, config.failure_threshold) == (10, 5, None)


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"max_request": 5}, "max_request"),
        ({"max_requests": "5"}, "max_requests"),
        ({"max_requests": 0}, "max_requests"),
        ({"max_requests": True}, "max_requests"),
        ({"max_requests": 5.0}, "max_requests"),
        ({"interval": 0}, "interval"),
        ({"interval": float("nan")}, "interval"),
        ({"timeout": float("inf")}, "timeout"),
        ({"timeout": "soon"}, "timeout"),
        ({"failure_rate_threshold": 0}, "failure_rate_threshold"),
        ({"failure_rate_threshold": 1.1}, "failure_rate_threshold"),
        ({"failure_rate_threshold": "60%"}, "failure_rate_threshold"),
        ({"slow_call_rate_threshold": -1}, "slow_call_rate_threshold"),
        ({"timeout_multiplier": 0.5}, "timeout_multiplier"),
        ({"timeout_jitter": 2}, "timeout_jitter"),
        ({"success_threshold": 6, "max_requests": 5}, "success_threshold"),
        ({"timeout": "10m", "timeout_max": "5m"}, "timeout_max"),
        (
            {"failure_threshold": None, "failure_rate_threshold": None, "slow_call_rate_threshold": None},
            "failure_threshold",
        ),
    ],
)
def test_setting_that_is_wrong_or_can_never_trip_is_refused(settings: dict[str, object], field: str) -> None:
    with pytest.raises(ConfigError) as refused:
        BreakerConfig.parse(settings)
    error = refused.value
    assert error.field == field
    assert str(error) == f"{field} must {error.rule}, got {error.value!r}"
    assert isinstance(error, CircuitError) and isinstance(error, ValueError)


@pytest.mark.parametrize(
    ("said", "follows"),
    [
        ({"timeout": 3600}, {"timeout_max": 3600}),
        ({"timeout_max": 10}, {"timeout": 10}),
        ({"max_requests": 1}, {"success_threshold": 1}),
        ({"success_threshold": 10}, {"max_requests": 10}),
        ({"call_timeout": 300}, {"half_open_max_duration": 300}),
        ({"probe_timeout": 40, "call_timeout": 300}, {"half_open_max_duration": 40}),
        ({"probe_timeout": 5}, {"half_open_max_duration": 30}),
        ({"half_open_max_duration": 20, "call_timeout": 60}, {"half_open_max_duration": 20}),
    ],
)
def test_default_gives_way_to_what_is_said(said: dict[str, Any], follows: dict[str, Any]) -> None:
    for config in (
        BreakerConfig(**said),
        replace(BreakerConfig(), **said),
        pickle.loads(pickle.dumps(BreakerConfig(**said))),
        BreakerConfig.parse(said),
    ):
        assert {key: getattr(config, key) for key in follows} == follows
        assert json.loads(json.dumps(asdict(config))).items() >= (said | follows).items()


def test_defaults_that_are_given_give_way_to_a_setting_and_keep_what_agrees() -> None:
    defaults = BreakerConfig(max_requests=6, success_threshold=4, timeout=20, timeout_max=60, half_open_max_duration=5)
    config = BreakerConfig.parse({"timeout": "10m", "max_requests": 2, "call_timeout": 30}, defaults)
    assert (config.timeout, config.timeout_max, config.half_open_max_duration) == (600, 600, 5)
    assert (config.max_requests, config.success_threshold) == (2, 2)
    assert BreakerConfig.parse({"timeout_max": 5}, defaults).timeout == 5


@pytest.mark.parametrize(
    "settings",
    [{"max_requests": 2, "success_threshold": 3}, {"max_requests": 5, "success_threshold": 6}],
)
def test_contradiction_between_two_settings_is_refused_even_if_one_says_the_default(settings: dict[str, int]) -> None:
    for make in (lambda: BreakerConfig(**settings), lambda: BreakerConfig.parse(settings, BreakerConfig())):
        with pytest.raises(ConfigError, match="success_threshold must be at most max_requests"):
            make()


def test_operator_changes_one_threshold_though_another_one_does_not_agree_with_it() -> None:
    breaker = CircuitBreaker("d", BreakerConfig(timeout_jitter=0))
    assert breaker.control.configure(timeout=3600).timeout_max == 3600
    assert breaker.control.configure(max_requests=1).success_threshold == 1
    with pytest.raises(ConfigError):
        breaker.control.configure(timeout=60, timeout_max=30)
    assert breaker.config.timeout == 3600


def test_duration_may_be_a_timedelta_and_is_read_as_seconds() -> None:
    config = BreakerConfig(
        timeout=timedelta(minutes=2), interval=timedelta(seconds=1), call_timeout=timedelta(seconds=3)
    )
    assert (config.timeout, config.interval, config.call_timeout) == (120.0, 1.0, 3.0)
    assert config == BreakerConfig(timeout=120, interval=1, call_timeout=3)
    with pytest.raises(ConfigError, match="timeout must be a duration from 1ms to 24h"):
        BreakerConfig(timeout=timedelta(days=2))


def test_duration_as_text_is_for_settings_files_alone() -> None:
    assert BreakerConfig.parse({"timeout": "10s"}).timeout == 10.0
    with pytest.raises(ConfigError, match="timeout must"):
        BreakerConfig(timeout="10s")  # type: ignore[arg-type]  # the mistake under test


def test_timeout_alone_may_be_long() -> None:
    assert BreakerConfig(timeout=3600).timeout_max == 3600.0


def test_initial_state_is_a_state_and_may_be_named() -> None:
    assert BreakerConfig(initial_state="METRICS_ONLY").initial_state is State.METRICS_ONLY
    assert BreakerConfig(initial_state=State.DISABLED).initial_state is State.DISABLED
    with pytest.raises(ConfigError, match="initial_state must be one of CLOSED"):
        BreakerConfig(initial_state=State.OPEN)
