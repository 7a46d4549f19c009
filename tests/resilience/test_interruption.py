"""Signal handlers that interrupt a transaction or a fork leave no lock behind."""

import os
import sqlite3
import sys
import threading
import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from cb.background import fork as fork_module
from cb.resilience import RateLimit, RateLimitedError
from cb.resilience import host_file as module
from cb.resilience.host_file import HostFile
from tests.support.interruptions import Interruption, interrupted

TABLE = "CREATE TABLE IF NOT EXISTS t (n)"
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="POSIX processes: run on Linux or macOS")


def fork() -> int:
    pid = os.fork()
    if not pid:
        os._exit(0)
    return os.waitpid(pid, 0)[1]


def elsewhere(work: Callable[[], object]) -> bool:
    """Return True if another thread can run a function."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(5)
    return not thread.is_alive()


def test_interrupted_transaction_releases_the_file(tmp_path: Path) -> None:
    it, other = (HostFile(tmp_path / "c", (TABLE,), 0.05) for _ in range(2))

    def insert(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO t VALUES (1)")

    number = 1
    while interrupted(lambda: it.write(insert), number):
        other.write(insert)
        assert elsewhere(lambda: it.write(insert)), f"point {number}"
        if number % 2:
            it.close()  # the next transaction uses a new connection
        number += 1
    assert number > 10


@pytest.fixture
def raised(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Return the exceptions of fork hooks, which Python does not propagate."""
    found: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda info: found.append(info.exc_type))
    return found


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_interrupted_fork_releases_the_files(
    tmp_path: Path, raised: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Objects of earlier tests would be reset in each child too, and every instruction of that traced.
    monkeypatch.setattr(fork_module, "_ALL", weakref.WeakSet())
    files = [HostFile(tmp_path / str(number), (TABLE,), 0.05) for number in range(3)]
    number = 1
    while interrupted(fork, number):
        for file in files:
            assert elsewhere(partial(file.read, "SELECT count(*) FROM t")), f"point {number}"
            assert file.read("SELECT count(*) FROM t")
        number += 1
    assert number > 5
    assert set(raised) <= {Interruption}


def test_interrupted_wait_before_a_fork_releases_the_limit(tmp_path: Path, raised: list[object]) -> None:
    limit = RateLimit("2/hour", f"file://{tmp_path / 'c'}", name="k")
    limit.acquire()

    assert interrupted(fork, 1)

    refused: list[RateLimitedError] = []

    def ask() -> None:
        limit.acquire()
        with pytest.raises(RateLimitedError) as caught:
            limit.acquire()
        refused.append(caught.value)

    assert elsewhere(ask)
    assert refused, "the threads of the process still share the limit"
    assert set(raised) <= {Interruption}


def test_connection_that_crossed_a_fork_is_not_used_in_the_child(tmp_path: Path, raised: list[object]) -> None:
    file = HostFile(tmp_path / "c", (TABLE,), 0.05)
    file.read("SELECT 1")
    file.reset_after_fork()  # as in a child whose pre-fork hook was skipped: the connection is the parent's

    with pytest.raises(module.StoreError, match="was open when this process was forked"):
        file.read("SELECT 1")
