"""`cb status`, `explain`, `events` and `watch` on ledgers of other processes, without writing to them."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cb import Ledger, LedgerError
from cb.cli import main as cb_main
from tests.cli.conftest import cb, document, everything, start, start_of
from tests.support import ROOT
from tests.support.demo_platform import read_until

pytestmark = pytest.mark.skipif(os.name != "posix", reason="ledgers in files need POSIX")


def test_status_lists_every_breaker_and_exits_with_1_if_one_is_open(shop: Path) -> None:
    ran = cb("status")
    heading, bank, stock, rejecting = ran.stdout.splitlines()
    assert (ran.returncode, ran.stderr) == (1, "")
    assert heading.split() == ["LEDGER", "BREAKER", "STATE", "FOR", "CALLS", "FAILED", "SLOW", "RUNNING", "WHY"]
    assert re.fullmatch(r"shop +bank +CLOSED +\d+s +1 +0% +0% +0 +closed: 1 of 5 calls needed in 60 s, .*", bank)
    assert re.fullmatch(r"shop +stock +OPEN +\d+s +2 +100% +0% +0 +open: 2 consecutive failures; .*", stock)
    assert rejecting == "rejecting calls: stock; next: cb explain stock"


def test_status_names_the_programs_of_a_ledger_that_two_of_them_share(shop: Path) -> None:
    [alone] = json.loads(cb("status", "--json").stdout)["ledgers"]
    with Ledger.in_file(shop) as ledger:
        ledger.core.shards.program = "bank-00c0ffee"
        ledger.join()
        [shared] = json.loads(cb("status", "--json").stdout)["ledgers"]
        said = cb("status").stdout, cb("status", "stock").stdout
    assert (len(alone["programs"]), shared["programs"]) == (1, sorted([*alone["programs"], "bank-00c0ffee"]))
    line = f"shared by programs with different code: {', '.join(shared['programs'])}\n"
    assert f"shop: {line}" in said[0]
    assert f"  {line}" in said[1]


def test_status_of_a_name_has_its_breakers_in_all_ledgers_and_their_exit_code(shop: Path, state: Path) -> None:
    other = start(state, "shm://other")
    try:
        ran = cb("status", "stock")
        assert (ran.returncode, ran.stderr) == (1, "")
        assert [line.split()[:2] for line in ran.stdout.splitlines()[1:3]] == [["other", "stock"], ["shop", "stock"]]
        assert "bank" not in ran.stdout
        assert re.search(
            r"^other: 1 live worker, .*\n  last failure \d+s ago: ZeroDivisionError", ran.stdout, re.MULTILINE
        )
        assert "cb metrics-only stock --ledger shop --for 1h" in ran.stdout
        assert cb("status", "bank").returncode == cb("status", "stock", "--ledger", "shop").returncode - 1 == 0
        assert [list(each["breakers"]) for each in document("status", "stock")["ledgers"]] == [["stock"], ["stock"]]
    finally:
        other.communicate()
    ran = cb("status", "stok")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "did you mean 'stock'?" in ran.stderr


def test_status_as_json_is_one_document(shop: Path) -> None:
    seen = document("status")
    (ledger,) = seen["ledgers"]
    assert seen["errors"] == []
    assert (ledger["name"], ledger["path"], ledger["workers"]) == ("shop", str(shop), 1)
    assert {name: each["state"] for name, each in ledger["breakers"].items()} == {"bank": "CLOSED", "stock": "OPEN"}
    assert ledger["breakers"]["stock"]["config"]["failure_threshold"] == 2


def test_explain_prints_reason_last_failure_and_latest_changes(shop: Path) -> None:
    ran = cb("explain", "stock")
    why, failure, change, advice = ran.stdout.splitlines()
    assert ran.returncode == 1
    assert why.startswith("shop stock: open: 2 consecutive failures; next probe in ")
    assert re.fullmatch(r"  last failure \d+s ago: ZeroDivisionError: .* \(worker \d+\)", failure)
    assert change.endswith("CLOSED -> OPEN: 2 consecutive failures")
    assert advice.startswith("  next: repair stock; the circuit closes by itself")
    assert cb("explain", "bank").returncode == 0
    assert list(document("explain", "bank")["ledgers"][0]["breakers"]) == ["bank"]


def test_events_list_the_latest_transitions(shop: Path) -> None:
    cb("reset", "stock", "--reason", "repaired", "--author", "alice")
    ran = cb("events")
    heading, opened, closed = ran.stdout.splitlines()
    assert (ran.returncode, heading.split()) == (0, ["TIME", "LEDGER", "BREAKER", "CHANGE", "WHY"])
    assert re.search(r"shop +stock +CLOSED -> OPEN +2 consecutive failures$", opened)
    assert closed.endswith("repaired (by alice)")
    (last,) = document("events", "stock", "--limit", "1")["events"]
    assert (last["ledger"], last["number"], last["from"], last["to"]) == ("shop", 2, "OPEN", "CLOSED")
    assert document("events", "bank")["events"] == document("events", "--name", "bank")["events"] == []


def test_events_since_a_time_have_the_offset_of_the_zone(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "America/St_Johns")
    ran = cb("events", "--since", "1h", "--name", "stock")
    (at,) = re.findall(r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d-0[23]:30)  shop", ran.stdout, re.MULTILINE)
    assert abs(datetime.now(UTC) - datetime.fromisoformat(at)) < timedelta(minutes=1)
    (event,) = document("events", "--since", at, "stock", "--name", "stock")["events"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", event["at"])
    assert document("events", "--since", "2999-01-01")["events"] == []
    assert cb("events", "bank", "--since", "1d12h").stdout.startswith("no change of state of bank since 20")
    for number in range(22):
        cb_main(["reset", "bank", "--reason", f"number {number}"])
    assert len(document("events")["events"]) == 20
    assert len(document("events", "--since", "1h")["events"]) == 23
    assert len(document("events", "--since", "1h", "--limit", "2")["events"]) == 2


def test_reading_writes_nothing_and_adds_no_worker(shop: Path, state: Path) -> None:
    before = everything(state)
    for command in (
        ["status"],
        ["status", "--json"],
        ["explain", "stock"],
        ["events"],
        ["__names"],
        ["force-open", "missing"],
    ):
        cb(*command)
    assert everything(state) == before
    assert Ledger.view(shop).workers() == 1


def test_viewed_ledger_is_read_only(shop: Path, state: Path) -> None:
    before = everything(state)
    ledger = Ledger.view(shop)
    with pytest.raises(TypeError):
        ledger.core.header[0] = 0
    with pytest.raises(LedgerError, match="is open for reading only"):
        ledger.core.record("new", 1)
    assert everything(state) == before


def test_ledger_of_a_dead_worker_is_readable_and_has_no_worker(state: Path) -> None:
    service = start(state)
    service.kill()
    service.communicate()
    (ledger,) = document("status")["ledgers"]
    assert (ledger["workers"], ledger["breakers"]["stock"]["state"]) == (0, "OPEN")
    assert ledger["retired_since"] is not None


@pytest.mark.parametrize("command", [["status"], ["explain", "bank"], ["force-open", "bank"], ["events"]])
def test_missing_ledger_is_an_error_that_names_the_directory(state: Path, command: list[str]) -> None:
    ran = cb(*command)
    assert (ran.returncode, ran.stdout) == (3, "")
    assert ran.stderr.startswith(f"cb: no ledger in {state}: ")
    assert list(state.iterdir()) == []


def test_named_ledger_that_does_not_exist_is_not_created(state: Path) -> None:
    ran = cb("status", "--json", "--ledger", "shm://missing")
    assert (ran.returncode, json.loads(ran.stdout)["ledgers"]) == (3, [])
    assert "missing.v3.ledger: cannot be opened (No such file or directory)" in ran.stderr
    assert list(state.iterdir()) == []


def damage(path: Path, content: bytes, cell: int, number: int) -> None:
    """Write a ledger with an invalid number in one cell."""
    path.write_bytes(content[: cell * 8] + number.to_bytes(8, "little", signed=True) + content[cell * 8 + 8 :])
    os.truncate(path, 268_505_088)


def test_invalid_ledgers_are_errors_and_the_others_are_listed(shop: Path, state: Path) -> None:
    (state / "text.v3.ledger").write_text("not a ledger")
    (state / "empty.v3.ledger").touch()
    os.mkfifo(state / "pipe.v3.ledger")
    content = start_of(shop)
    for name, cell, number in (("rows", 4, 10**9), ("code", 17 * 512, 7), ("slice", 17 * 512 + 4, 0), ("boot", 2, 1)):
        damage(state / f"{name}.v3.ledger", content, cell, number)
    (state / "short.v3.ledger").write_bytes(content[:100_000])
    ran = cb("status")
    assert ran.returncode == 3
    assert {line.split()[0] for line in ran.stdout.splitlines()} == {"LEDGER", "shop", "boot:", "empty:", "rejecting"}
    errors = dict(re.findall(r"cb: ledger .*/(\w+)\.v3\.ledger: (.*)", ran.stderr))
    assert errors == {
        "code": "is damaged",
        "pipe": "is not a ledger",
        "rows": "is damaged",
        "short": "has 100000 bytes, not 268505088",
        "slice": "is damaged",
        "text": "is not a ledger",
    }


def test_control_characters_of_a_reason_are_not_printed(shop: Path) -> None:
    cb("force-open", "bank", "--reason", "\x1b[31mred\nforged")
    for command in ("status", "events"):
        printed = cb(command).stdout
        assert "?[31mred?forged" in printed
        assert "\x1b" not in printed


def test_only_watch_needs_another_package(shop: Path) -> None:
    assert cb("status", options=("-S",)).returncode == 1
    ran = cb("watch", options=("-S",))
    assert (ran.returncode, "needs rich: pip install" in ran.stderr) == (2, True)


def test_watch_updates_until_it_is_interrupted(shop: Path) -> None:
    terminal, other = pty.openpty()
    command = [sys.executable, "-m", "cb", "watch"]
    watch = subprocess.Popen(command, cwd=ROOT, stdin=other, stdout=other, stderr=other, text=True)
    os.close(other)
    watch.stdout = os.fdopen(terminal, "r", errors="replace")
    assert "2 consecutive failures" in read_until(watch, "2 consecutive failures")
    cb("reset", "stock", "--reason", "repaired")
    assert "closed: 0 of 5 calls" in read_until(watch, "closed: 0 of 5 calls")
    watch.send_signal(signal.SIGINT)
    assert watch.wait(10) == 0
    watch.stdout.close()
    assert Ledger.view(shop).workers() == 1


def test_reader_that_closes_its_pipe_is_no_error(shop: Path) -> None:
    command = f"{sys.executable} -m cb status | head -n 0; exit ${{PIPESTATUS[0]}}"
    ran = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ran.stdout, ran.stderr) == ("", "")


def test_bash_completes_commands_and_names(shop: Path, tmp_path: Path) -> None:
    (tmp_path / "cb").write_text(f'#!/bin/sh\ncd {ROOT} && exec {sys.executable} -m cb "$@"\n')
    (tmp_path / "cb").chmod(0o755)
    script = """
source <(cb completion bash)
for words in "cb ex" "cb for" "cb force-open s" "cb status ''" "cb forget ''" "cb reset bank --ledger s"; do
    eval "COMP_WORDS=($words)"; COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _cb; echo "${COMPREPLY[@]}"
done
"""
    environ = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    ran = subprocess.run(["bash", "-c", script], env=environ, capture_output=True, text=True, check=False)
    assert (ran.stdout, ran.stderr) == ("explain\nforce-open forget\nstock\nbank stock\nshop\nshop\n", "")
    assert "compdef _cb cb" in cb("completion", "zsh").stdout
