"""Thresholds are checked once, and the error names field, rule and value."""

import pytest

from cb import BreakerConfig, CircuitError, ConfigError, parse_duration


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
        ({"success_threshold": 6}, "success_threshold"),
        ({"timeout": "10m"}, "timeout_max"),
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
