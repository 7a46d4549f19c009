"""Arguments of `cb` that are read before a ledger is: time spans, and suggestions for mistyped commands."""

import argparse
from datetime import UTC, datetime

import pytest

from cb.cli import values
from cb.cli.arguments import CONTROLS, parse
from cb.cli.completion import script
from cb.config import BreakerConfig


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("15m", 900),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        ("3d", 259_200),
        ("1d12h", 129_600),
        ("1.5h", 5400),
        ("0.5d", 43_200),
        ("90", 90),
        ("2m500ms", 120.5),
        ("30d", 2_592_000),
    ],
)
def test_span_of_one_or_several_units_is_read_as_seconds(text: str, seconds: float) -> None:
    assert values.hold(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "d", "12h1d", "1d1d", "-1d", "1d-2h", "1 day", "3D", "٣d", "1e3s", "1d\n", "inf", "nan"),
        *("0", "0d0h", "31d", "30d1ms", "9" * 400 + "d"),
    ],
)
def test_text_that_is_no_span_of_at_most_30_days_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=r"^must be ") as refused:
        values.hold(text)
    assert repr(text) in str(refused.value)


def test_setting_takes_the_spans_of_the_command() -> None:
    settings = dict(values.setting(text) for text in ("timeout=1h30m", "timeout_max=1d", "interval=30s"))
    assert settings == {"timeout": 5400.0, "timeout_max": 86400.0, "interval": "30s"}
    assert BreakerConfig.parse(settings).timeout == 5400


@pytest.mark.parametrize("text", ["2026-12-01 03:04:05+01:00", "2026-12-01T02:04:05Z", "20261201T020405+00:00"])
def test_moment_is_read_in_any_zone(text: str) -> None:
    assert values.moment(text) == datetime(2026, 12, 1, 2, 4, 5, tzinfo=UTC).timestamp()


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01", "25:00", "-1h"])
def test_text_that_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=r"^must be a time"):
        values.moment(text)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["opne", "bank"], "cb force-open bank"),
        (["open", "bank", "--reason", "it is down"], "cb force-open bank --reason 'it is down'"),
        (["close", "bank"], "cb reset bank"),
        (["shadow", "bank"], "cb metrics-only bank"),
        (["--", "close", "bank"], "cb reset bank"),
        (["force_open", "bank"], "cb force-open bank"),
        (["Status"], "cb status"),
        (["stauts"], "cb status"),
        (["forgett", "shop"], "cb forget shop"),
        (["rm", "shop"], "cb forget shop"),
        (["names"], None),
        (["__name"], None),
        (["zzz"], None),
    ],
)
def test_mistyped_or_old_command_gets_the_present_one_and_never_a_hidden_one(
    capsys: pytest.CaptureFixture[str], typed: list[str], meant: str | None
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(typed)
    printed, error = capsys.readouterr()
    assert (ended.value.code, printed) == (2, "")
    assert "there is no command" in error
    assert error.endswith(f"did you mean: {meant}\n") if meant else "only status, " in error
    assert "__" not in error.replace("'__name'", "")


def test_help_and_completion_list_every_command_and_no_hidden_one(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--help"])
    printed = capsys.readouterr().out
    for command in ("status", "watch", "explain", "events", *CONTROLS, "configure", "forget", "completion"):
        assert f"\n    {command}" in printed
        assert all(f" {command}" in script(shell) or f'"{command} ' in script(shell) for shell in ("bash", "zsh"))
    assert "__" not in printed


def test_command_without_arguments_prints_its_help_as_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse([])
    printed, error = capsys.readouterr()
    assert (ended.value.code, printed, "exit codes:" in error) == (2, "", True)
