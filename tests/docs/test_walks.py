"""The walks of ARCHITECTURE.md: as many files as they list, each used, by calls that are made here."""

import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from cb import BreakerConfig, CircuitBreaker, Ledger, State
from cb.fleet import Fleet
from tests.support import ROOT
from tests.support.redis_servers import BINARIES, Server
from tests.support.waiting import until

SECTIONS = re.findall(
    r"^### (.*)\n((?:(?!^##).*\n)*)", (ROOT / "ARCHITECTURE.md").read_text().partition("## Walks")[2], re.MULTILINE
)
WALKS = {title: re.findall(r"^\| \d+ \| `(\S+)` \|", text, re.MULTILINE) for title, text in SECTIONS}
#: most files to open
LIMITS = {
    "A successful call": 3,
    "The first call of a process": 8,
    "OPEN → HALF_OPEN → CLOSED": 5,
    "Host → fleet": 8,
    "A trade": 9,
}


@contextmanager
def executed_files() -> Iterator[set[str]]:
    """Collect the files of the library whose functions run in this thread, and in threads that start meanwhile."""
    files: set[str] = set()

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and (path := frame.f_code.co_filename).startswith(f"{ROOT}/cb/"):
            files.add(Path(path).relative_to(ROOT).as_posix())

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        yield files
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


def fail() -> None:
    raise ConnectionError


@pytest.mark.parametrize("title", LIMITS)
def test_walk_is_short_and_its_files_exist(title: str) -> None:
    assert 0 < len(WALKS[title]) <= LIMITS[title]
    assert [path for path in WALKS[title] if not (ROOT / path).is_file()] == []


def test_calls_run_in_the_files_of_their_walk(tmp_path: Path) -> None:
    config = BreakerConfig(failure_threshold=1, success_threshold=1, max_requests=1, timeout=0.001, timeout_jitter=0)
    breaker = CircuitBreaker("walk", config, ledger=Ledger.in_file(tmp_path / "ledger"))
    guarded = breaker(int)
    with executed_files() as first:
        guarded()
    with executed_files() as warm:
        guarded()
    with pytest.raises(ConnectionError):
        breaker.call(fail)
    until(lambda: breaker.snapshot().retry_after == 0, "the open time is over")
    with executed_files() as recovery:
        guarded()

    assert breaker.state is State.CLOSED
    assert warm == {"cb/breaker.py"}  # the other files of its walk are names and memory
    assert set(WALKS["The first call of a process"]) <= first
    assert set(WALKS["OPEN → HALF_OPEN → CLOSED"]) <= recovery


def test_host_and_fleet_run_in_the_files_of_their_walk(tmp_path: Path) -> None:
    ledgers = [Ledger.in_file(tmp_path / name) for name in ("a", "b")]
    with Server(BINARIES["valkey"], tmp_path / "server") as server, executed_files() as files:
        fleets = [Fleet(server.url, ledger, name="walk") for ledger in ledgers]
        a, b = (CircuitBreaker("walk", ledger=ledger) for ledger in ledgers)
        a.control.force_open(reason="maintenance")
        until(lambda: b.state is State.FORCED_OPEN)
        for fleet in fleets:
            fleet.close()
    assert {path for path in WALKS["Host → fleet"] if path.endswith(".py")} <= files
