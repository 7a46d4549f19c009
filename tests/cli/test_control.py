"""`cb force-open`, `disable`, `metrics-only`, `reset` and `configure` on the breakers of running services."""

import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cb import BreakerConfig, Ledger, Registry, State
from tests.cli.conftest import cb, document, everything, start

pytestmark = pytest.mark.skipif(os.name != "posix", reason="ledgers in files need POSIX")


@pytest.mark.parametrize(
    ("command", "after"),
    [
        ("force-open", State.FORCED_OPEN),
        ("disable", State.DISABLED),
        ("metrics-only", State.METRICS_ONLY),
        ("reset", State.CLOSED),
    ],
)
def test_command_changes_the_state_and_keeps_the_thresholds(shop: Path, command: str, after: State) -> None:
    ran = cb(command, "stock", "--author", "alice", "--reason", "the stock migrates")
    assert (ran.returncode, ran.stderr) == (0, "")
    changed, *end = ran.stdout.splitlines()
    assert changed == f"shop stock: OPEN -> {after}, the stock migrates (by alice)"
    held = ["  until reset (--for 15m would end it by itself): cb reset stock --ledger shop"]
    assert end == ([] if command == "reset" else held)
    stock = Registry(ledger=Ledger.in_file(shop)).control("stock")
    assert stock is not None
    assert (stock.state, stock.config.failure_threshold) == (after, 2)
    assert stock.config != BreakerConfig()
    assert Ledger.view(shop).workers() == 1


@pytest.mark.parametrize(("span", "seconds"), [("3d", 259_200), ("1h30m", 5400)])
def test_answer_says_until_when_the_state_lasts(
    shop: Path, monkeypatch: pytest.MonkeyPatch, span: str, seconds: float
) -> None:
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    before = datetime.now(UTC)
    ran = cb("disable", "bank", "--for", span)
    _, end = ran.stdout.splitlines()
    (until,) = map(datetime.fromisoformat, re.findall(r"^  until (\S+ \S+\+05:30); to end it earlier: ", end))
    assert end.endswith(": cb reset bank --ledger shop")
    assert timedelta(seconds=seconds - 1) <= until - before <= timedelta(seconds=seconds + 10)


def test_state_ends_after_the_given_time(shop: Path) -> None:
    (change,) = document("force-open", "bank", "--for", "15m")["changes"]
    assert timedelta(seconds=880) < datetime.fromisoformat(change["until"]) - datetime.now(UTC) < timedelta(seconds=901)
    assert (change["ledger"], change["name"], change["from"], change["to"]) == ("shop", "bank", "CLOSED", "FORCED_OPEN")
    assert change["reason"].startswith("by hand (by ")
    assert 890 < document("explain", "bank")["ledgers"][0]["breakers"]["bank"]["retry_after_seconds"] <= 900


def test_breaker_in_several_ledgers_is_controlled_in_those_that_are_named(
    shop: Path, state: Path, tmp_path: Path
) -> None:
    other = start(tmp_path, f"file://{state}/other.v3.ledger")
    try:
        before = everything(state)
        for command in (["force-open", "bank"], ["reset", "bank"], ["configure", "bank", "timeout=9s"]):
            ran = cb(*command)
            assert (ran.returncode, ran.stdout) == (2, "")
            assert "2 ledgers have a breaker 'bank': other, shop; nothing was changed" in ran.stderr
            assert "--ledger other" in ran.stderr and "--all" in ran.stderr
        assert everything(state) == before
        changes = document("force-open", "bank", "--all")["changes"]
        assert [each["ledger"] for each in changes] == ["other", "shop"]
        for named in ("other", "shm://other", f"file://{state}/other.v3.ledger", f"{state}/other.v3.ledger"):
            assert [each["ledger"] for each in document("reset", "bank", "--ledger", named)["changes"]] == ["other"]
        states = {each["name"]: each["breakers"]["bank"]["state"] for each in document("status")["ledgers"]}
        assert states == {"other": "CLOSED", "shop": "FORCED_OPEN"}
        both = document("reset", "bank", "--ledger", "shop", "--ledger", "other", "--ledger", "shop")["changes"]
        assert sorted(each["ledger"] for each in both) == ["other", "shop"]
    finally:
        other.communicate()


@pytest.mark.parametrize("command", [["status"], ["reset", "bank"], ["events"], ["forget"]])
def test_unknown_ledger_is_an_error_that_lists_the_known_ones(shop: Path, state: Path, command: list[str]) -> None:
    before = everything(state)
    ran = cb(*command, *(["shpo"] if command == ["forget"] else ["--ledger", "shpo"]))
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "must be one of shop, or a file or URL, got 'shpo'" in ran.stderr
    assert everything(state) == before


def test_configure_changes_thresholds_keeps_the_others_and_logs_the_change(shop: Path) -> None:
    ran = cb(
        "configure", "stock", "timeout=90s", "failure_threshold=7", "failure_rate_threshold=none", "--author", "al"
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout == "shop stock: timeout = 90.0, failure_threshold = 7, failure_rate_threshold = None\n"
    breaker = document("explain", "stock")["ledgers"][0]["breakers"]["stock"]
    config = breaker["config"]
    assert (config["timeout"], config["failure_threshold"], config["failure_rate_threshold"]) == (90, 7, None)
    assert (config["timeout_max"], breaker["state"]) == (3600, "OPEN")
    (event,) = document("events", "stock", "--limit", "1")["events"]
    assert event["from"] == event["to"] == "OPEN" and event["reason"].endswith(" (by al)")
    (change,) = document("configure", "stock", "max_requests=9", "--reason", "more hosts")["changes"]
    assert (change["ledger"], change["name"], change["config"]["max_requests"]) == ("shop", "stock", 9)
    (event,) = document("events", "stock", "--limit", "1")["events"]
    assert event["reason"].startswith("max_requests = 9: more hosts (by ")


@pytest.mark.parametrize("settings", [["timeout=soon"], ["failure_threshold=0"], ["failure_threshold=2.5"]])
def test_configure_with_an_invalid_setting_changes_nothing(shop: Path, settings: list[str]) -> None:
    before = document("explain", "bank")["ledgers"][0]["breakers"]["bank"]["config"]
    ran = cb("configure", "bank", "timeout=9", *settings)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith(f"cb: shop bank: {settings[0].partition('=')[0]} must be ")
    assert document("explain", "bank")["ledgers"][0]["breakers"]["bank"]["config"] == before


@pytest.mark.parametrize("command", ["force-open", "reset", "explain", "events"])
def test_unknown_name_is_an_error_that_lists_the_known_names(shop: Path, command: str) -> None:
    ran = cb(command, "stok")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr == "cb: no breaker 'stok': did you mean 'stock'? there are: bank, stock\n"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["explode"],
        ["force-open"],
        ["open", "bank"],
        ["close", "bank"],
        ["force-open", "bank", "--for", "soon"],
        ["force-open", "bank", "--for", "0"],
        ["force-open", "bank", "--for", "31d"],
        ["force-open", "bank", "--reason", " "],
        ["reset", "bank", "--for", "1m"],
        ["configure", "bank"],
        ["configure", "bank", "timeout"],
        ["configure", "bank", "timeout="],
        ["configure", "bank", "=5"],
        ["configure", "bank", "timeot=5"],
        ["configure", "bank", "timeout=2d"],
        ["configure", "bank", "author=5"],
        ["events", "--limit", "0"],
        ["events", "--since", "soon"],
        ["events", "bank", "--name", "stock"],
        ["forget"],
        ["status", "--ledger", "memory://"],
        ["status", "--ledger", "redis://localhost"],
    ],
)
def test_invalid_command_is_refused_and_writes_nothing(shop: Path, state: Path, arguments: list[str]) -> None:
    before = everything(state)
    ran = cb(*arguments)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr
    assert everything(state) == before
