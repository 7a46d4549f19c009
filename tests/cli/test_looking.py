"""What `cb` tells of ledgers that other processes have made, and that it only looks."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cb import Ledger, LedgerError
from tests.cli.conftest import ROOT, cb, document, everything, start, start_of
from tests.platform.test_demo import read_until

pytestmark = pytest.mark.skipif(os.name != "posix", reason="ledgers in files need POSIX")


def test_status_lists_every_breaker_and_says_that_one_is_open(shop: Path) -> None:
    ran = cb("status")
    heading, bank, stock = ran.stdout.splitlines()
    assert (ran.returncode, ran.stderr) == (1, "")
    assert heading.split() == ["LEDGER", "BREAKER", "STATE", "FOR", "CALLS", "FAILED", "SLOW", "RUNNING", "WHY"]
    assert re.fullmatch(r"shop +bank +CLOSED +\d+s +1 +0% +0% +0 +closed: 1 of 5 calls needed in 60 s, .*", bank)
    assert re.fullmatch(r"shop +stock +OPEN +\d+s +2 +100% +0% +0 +open: 2 consecutive failures; .*", stock)


def test_status_for_scripts_is_one_document(shop: Path) -> None:
    seen = document("status")
    (ledger,) = seen["ledgers"]
    assert seen["errors"] == []
    assert (ledger["name"], ledger["path"], ledger["workers"]) == ("shop", str(shop), 1)
    assert {name: each["state"] for name, each in ledger["breakers"].items()} == {"bank": "CLOSED", "stock": "OPEN"}
    assert ledger["breakers"]["stock"]["config"]["failure_threshold"] == 2


def test_explain_says_why_and_what_happened(shop: Path) -> None:
    ran = cb("explain", "stock")
    why, failure, change = ran.stdout.splitlines()
    assert ran.returncode == 1
    assert why.startswith("shop stock: open: 2 consecutive failures; next probe in ")
    assert re.fullmatch(r"  last failure \d+s ago: ZeroDivisionError", failure)
    assert change.endswith("CLOSED -> OPEN: 2 consecutive failures")
    assert cb("explain", "bank").returncode == 0
    assert list(document("explain", "bank")["ledgers"][0]["breakers"]) == ["bank"]


def test_events_list_the_latest_transitions(shop: Path) -> None:
    cb("close", "stock", "--reason", "mended", "--author", "alice")
    ran = cb("events")
    heading, opened, closed = ran.stdout.splitlines()
    assert (ran.returncode, heading.split()) == (0, ["TIME", "LEDGER", "BREAKER", "CHANGE", "WHY"])
    assert re.search(r"shop +stock +CLOSED -> OPEN +2 consecutive failures$", opened)
    assert closed.endswith("mended (by alice)")
    (last,) = document("events", "stock", "--limit", "1")["events"]
    assert (last["ledger"], last["number"], last["from"], last["to"]) == ("shop", 2, "OPEN", "CLOSED")
    assert document("events", "bank")["events"] == []


def test_reading_writes_nothing_and_joins_nobody(shop: Path, state: Path) -> None:
    before = everything(state)
    for command in (
        ["status"],
        ["status", "--json"],
        ["explain", "stock"],
        ["events"],
        ["__names"],
        ["open", "nobody"],
    ):
        cb(*command)
    assert everything(state) == before
    assert Ledger.view(shop).workers() == 1


def test_ledger_that_is_viewed_cannot_be_written(shop: Path, state: Path) -> None:
    before = everything(state)
    ledger = Ledger.view(shop)
    with pytest.raises(TypeError):
        ledger.header[0] = 0
    with pytest.raises(LedgerError, match="is open for reading only"):
        ledger.row("new", 1)
    assert everything(state) == before


def test_dead_worker_is_no_worker_and_its_ledger_can_still_be_read(state: Path) -> None:
    service = start(state)
    service.kill()
    service.communicate()
    (ledger,) = document("status")["ledgers"]
    assert (ledger["workers"], ledger["breakers"]["stock"]["state"]) == (0, "OPEN")


@pytest.mark.parametrize("command", [["status"], ["explain", "bank"], ["open", "bank"], ["events"]])
def test_without_a_ledger_it_says_where_it_has_looked(state: Path, command: list[str]) -> None:
    ran = cb(*command)
    assert (ran.returncode, ran.stdout) == (3, "")
    assert ran.stderr.startswith(f"cb: no ledger in {state}: ")
    assert list(state.iterdir()) == []


def test_ledger_that_is_not_there_is_not_made(state: Path) -> None:
    ran = cb("status", "--json", "--ledger", "shm://nobody")
    assert (ran.returncode, json.loads(ran.stdout)["ledgers"]) == (3, [])
    assert "nobody.v3.ledger: cannot be opened (No such file or directory)" in ran.stderr
    assert list(state.iterdir()) == []


def damage(path: Path, content: bytes, cell: int, number: int) -> None:
    """Make a ledger in which one cell holds a number that nobody writes there."""
    path.write_bytes(content[: cell * 8] + number.to_bytes(8, "little", signed=True) + content[cell * 8 + 8 :])
    os.truncate(path, 268_505_088)


def test_ledgers_that_are_none_are_told_and_the_others_shown(shop: Path, state: Path) -> None:
    (state / "text.v3.ledger").write_text("not a ledger")
    (state / "empty.v3.ledger").touch()
    os.mkfifo(state / "pipe.v3.ledger")
    content = start_of(shop)
    for name, cell, number in (("rows", 4, 10**9), ("code", 17 * 512, 7), ("slice", 17 * 512 + 4, 0), ("boot", 2, 1)):
        damage(state / f"{name}.v3.ledger", content, cell, number)
    (state / "short.v3.ledger").write_bytes(content[:100_000])
    ran = cb("status")
    assert ran.returncode == 3
    assert {line.split()[0] for line in ran.stdout.splitlines()} == {"LEDGER", "shop"}
    told = dict(re.findall(r"cb: ledger .*/(\w+)\.v3\.ledger: (.*)", ran.stderr))
    assert told == {
        "boot": "has not been used since the last boot",
        "code": "is damaged",
        "empty": "has not been used since the last boot",
        "pipe": "is not a ledger",
        "rows": "is damaged",
        "short": "has 100000 bytes, not 268505088",
        "slice": "is damaged",
        "text": "is not a ledger",
    }


def test_name_and_reason_of_others_do_nothing_to_the_terminal(shop: Path) -> None:
    cb("open", "bank", "--reason", "\x1b[31mred\nforged")
    for command in ("status", "events"):
        printed = cb(command).stdout
        assert "?[31mred?forged" in printed
        assert "\x1b" not in printed


def test_works_in_a_bare_install_where_only_watch_does_not(shop: Path) -> None:
    assert cb("status", options=("-S",)).returncode == 1
    ran = cb("watch", options=("-S",))
    assert (ran.returncode, "needs rich: pip install" in ran.stderr) == (2, True)


def test_watch_follows_until_it_is_interrupted(shop: Path) -> None:
    terminal, theirs = pty.openpty()
    command = [sys.executable, "-m", "cb", "watch"]
    watch = subprocess.Popen(command, cwd=ROOT, stdin=theirs, stdout=theirs, stderr=theirs, text=True)
    os.close(theirs)
    watch.stdout = os.fdopen(terminal, "r", errors="replace")
    assert "2 consecutive failures" in read_until(watch, "2 consecutive failures")
    cb("close", "stock", "--reason", "mended")
    assert "closed: 0 of 5 calls" in read_until(watch, "closed: 0 of 5 calls")
    watch.send_signal(signal.SIGINT)
    assert watch.wait(10) == 0
    watch.stdout.close()
    assert Ledger.view(shop).workers() == 1


def test_reader_that_has_seen_enough_is_no_error(shop: Path) -> None:
    command = f"{sys.executable} -m cb status | head -n 0; exit ${{PIPESTATUS[0]}}"
    ran = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ran.stdout, ran.stderr) == ("", "")


def test_bash_completes_commands_and_names(shop: Path, tmp_path: Path) -> None:
    (tmp_path / "cb").write_text(f'#!/bin/sh\ncd {ROOT} && exec {sys.executable} -m cb "$@"\n')
    (tmp_path / "cb").chmod(0o755)
    script = """
source <(cb completion bash)
for words in "cb ex" "cb open s" "cb open ''"; do
    eval "COMP_WORDS=($words)"; COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _cb; echo "${COMPREPLY[@]}"
done
"""
    environ = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    ran = subprocess.run(["bash", "-c", script], env=environ, capture_output=True, text=True, check=False)
    assert (ran.stdout, ran.stderr) == ("explain\nstock\nbank stock\n", "")
    assert "compdef _cb cb" in cb("completion", "zsh").stdout
