"""Retired ledgers, which no live process has in use: listed apart, without effect on exit codes, and removed."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cb import CircuitBreaker, Ledger, LedgerError
from cb.ledger.removal import remove
from tests.cli.conftest import cb, document, everything, start
from tests.support import ROOT

pytestmark = pytest.mark.skipif(os.name != "posix", reason="ledgers in files need POSIX")


@pytest.fixture
def old(state: Path) -> Path:
    """Return the ledger of a service that was killed while its circuit `stock` was open."""
    service = start(state, "shm://old")
    service.kill()
    service.communicate()
    return state / "old.v3.ledger"


@pytest.fixture
def idle(state: Path) -> Iterator[Path]:
    """Yield the ledger of a process that has it open and has made no call."""
    program = (
        "from cb import *; b = CircuitBreaker('bank', ledger=Ledger.open('shm://idle')); print(flush=True); input()"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)
    assert process.stdout is not None
    process.stdout.readline()
    yield state / "idle.v3.ledger"
    process.communicate(b"\n")


def test_open_circuit_of_a_retired_ledger_does_not_affect_the_exit_code(old: Path) -> None:
    ran = cb("status")
    _, bank, stock, retired = ran.stdout.splitlines()
    assert (ran.returncode, ran.stderr) == (0, "")
    assert re.match(r"old +bank +RETIRED +\d+s +1 .* was closed: ", bank)
    assert re.match(r"old +stock +RETIRED +\d+s +2 .* was open: 2 consecutive failures", stock)
    (since,) = re.findall(
        r"^old: retired since (\S+ \S+[+-]\d\d:\d\d), no live worker; to remove it: cb forget old$", retired
    )
    assert abs(datetime.now(UTC) - datetime.fromisoformat(since)) < timedelta(minutes=1)
    assert cb("explain", "stock").returncode == cb("status", "stock").returncode == 0


def test_live_and_retired_ledgers_are_told_apart(old: Path, shop: Path) -> None:
    ran = cb("status")
    assert ran.returncode == 1
    assert [line.split()[0] for line in ran.stdout.splitlines()[1:5]] == ["shop", "shop", "old", "old"]
    seen = {each["name"]: each for each in document("status")["ledgers"]}
    assert (seen["shop"]["workers"], seen["shop"]["retired_since"]) == (1, None)
    assert seen["old"]["workers"] == 0
    assert seen["old"]["retired_since"].endswith("Z")


def test_command_acts_on_the_live_ledger_alone_unless_the_retired_one_is_named(old: Path, shop: Path) -> None:
    assert [each["ledger"] for each in document("reset", "stock")["changes"]] == ["shop"]
    assert [each["ledger"] for each in document("reset", "stock", "--all")["changes"]] == ["shop"]
    ran = cb("force-open", "stock", "--ledger", "old")
    assert ran.stdout.startswith("old stock: OPEN -> FORCED_OPEN, ")
    assert "old is retired: no live worker; processes that start will find this state" in ran.stdout


def test_ledger_of_an_idle_process_is_not_retired_and_is_not_removed(idle: Path, state: Path) -> None:
    before = everything(state)
    (ledger,) = document("status")["ledgers"]
    assert (ledger["workers"], ledger["retired_since"]) == (0, None)
    ran = cb("forget", "idle")
    assert (ran.returncode, ran.stdout) == (3, "")
    assert re.search(r"is in use by a live process \(process \d+\), and was not removed: end the service", ran.stderr)
    with pytest.raises(LedgerError, match="is in use by a live process"):
        remove(str(idle))
    assert everything(state) == before


def test_forget_removes_all_files_of_a_retired_ledger_and_no_others(old: Path, shop: Path, state: Path) -> None:
    kept = {path for path in state.rglob("*") if not path.is_relative_to(f"{old}.locks")} - {old, Path(f"{old}.locks")}
    ran = cb("forget", "old", "shop")
    assert ran.returncode == 3
    assert re.fullmatch(rf"removed {old} and its locks, retired since .*: bank CLOSED, stock OPEN\n", ran.stdout)
    assert f"ledger {shop}: is in use by a live process" in ran.stderr
    assert set(state.rglob("*")) == kept
    assert [each["name"] for each in document("status")["ledgers"]] == ["shop"]


def test_ledger_from_before_the_last_boot_is_retired_and_can_be_removed(old: Path, state: Path) -> None:
    with old.open("r+b") as file:
        file.seek(16)
        file.write(b"another boot, 16")
    ran = cb("status")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith("old: retired since ")
    assert document("forget", "old") == {
        "removed": [{"path": str(old), "retired_since": document_time(ran.stdout)}],
        "errors": [],
    }
    assert list(state.iterdir()) == []


def document_time(line: str) -> str:
    """Return the local time in a line as JSON documents have it."""
    (since,) = re.findall(r"since (\S+ \S+),", line)
    return f"{datetime.fromisoformat(since).astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


@pytest.mark.parametrize("content", [b"a letter", b"", bytes(4096), b"cbledger" + (2).to_bytes(8, "little")])
def test_file_that_is_no_ledger_of_this_version_is_never_removed(
    state: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = state / "letter.v3.ledger"
    file.write_bytes(content)
    monkeypatch.chdir(state)
    before = everything(state)
    with pytest.raises(LedgerError):
        remove(str(file))
    assert everything(state) == before
    assert list(state.iterdir()) == [file]


def test_damaged_ledger_can_be_removed(old: Path, state: Path) -> None:
    os.truncate(old, 100_000)
    assert cb("status").returncode == 3
    assert cb("forget", "old").returncode == 0
    assert list(state.iterdir()) == []


#: opens a ledger, makes a call, and closes it, as often as possible; prints the number of times
_STARTER = """
import sys, time
from cb import CircuitBreaker, Ledger
from cb.clocks import monotonic

end, number = monotonic() + float(sys.argv[2]), 0
while monotonic() < end:
    with Ledger.in_file(sys.argv[1]) as ledger:
        breaker = CircuitBreaker("bank", ledger=ledger)
        breaker.call(int)
        breaker.control.evaluate()
        assert (ledger.scope, ledger.degraded, ledger.workers() > 0) == ("host", None, True), ledger
        number += 1
print(number)
"""


@pytest.mark.quiet
def test_worker_that_starts_while_its_ledger_is_removed_shares_a_ledger(state: Path) -> None:
    path, removed = state / "old.v3.ledger", 0
    command = [sys.executable, "-c", _STARTER, str(path), "1.5"]
    starters = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) for _ in range(2)]
    while any(starter.poll() is None for starter in starters):
        try:
            remove(str(path))
            removed += 1
        except LedgerError:
            pass
    starts = [starter.communicate()[0] for starter in starters]
    assert [starter.returncode for starter in starters] == [0, 0]
    assert min(map(int, starts)) > 5
    assert removed > 5


def test_removed_ledger_is_created_anew_by_the_next_worker(old: Path) -> None:
    remove(str(old))
    breaker = CircuitBreaker("stock", ledger=Ledger.in_file(old))
    assert (breaker.call(int), breaker.snapshot().totals.requests) == (0, 1)
