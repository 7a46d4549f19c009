"""The SQLite file that all workers of a host share: private, and safe with fork and SIGKILL."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import greenlet
import pytest

from cb.resilience import StaleCache, StoreError, open_store
from cb.resilience.host_file import HostFile
from cb.resilience.stores import FileStore
from cb.testing import FakeClock, workers

pytestmark = [
    pytest.mark.quiet,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="POSIX processes: run on Linux or macOS"),
]
SECOND = 1_000_000_000
COUNTER = "CREATE TABLE IF NOT EXISTS counter (id INTEGER PRIMARY KEY, n INTEGER)"


def count(connection: sqlite3.Connection) -> int:
    connection.execute("INSERT OR IGNORE INTO counter VALUES (1, 0)")
    connection.execute("UPDATE counter SET n = n + 1")
    n: int = connection.execute("SELECT n FROM counter").fetchone()[0]
    return n


def in_child(work: Callable[[], object]) -> int:
    """Return the exit code of a forked child that runs a function."""
    pid = os.fork()
    if not pid:
        signal.alarm(10)  # fail instead of hanging
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_files_are_private_to_their_user(tmp_path: Path) -> None:
    store = open_store(f"file://{tmp_path / 'c'}")
    store.put("k", b"v", 0)
    assert {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {
        "c": 0o600,
        "c-wal": 0o600,
        "c-shm": 0o600,
    }


def test_file_readable_by_others_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "c").touch(0o644)
    with pytest.raises(StoreError, match="is not a private file"):
        open_store(f"file://{tmp_path / 'c'}").get("k")


def test_symbolic_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").touch(0o600)
    (tmp_path / "c").symlink_to(tmp_path / "victim")
    with pytest.raises(StoreError, match="is not a private file"):
        open_store(f"file://{tmp_path / 'c'}").put("k", b"v", 0)
    assert (tmp_path / "victim").stat().st_size == 0


def corrupt(path: Path) -> None:
    path.write_bytes(b"not a database " * 1000)
    path.chmod(0o600)


def tear(path: Path) -> None:
    store = FileStore(path)
    for number in range(500):
        store.put(str(number), b"v" * 200, 0)
    del store
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(path.stat().st_size - 4096))


@pytest.mark.parametrize("spoil", [corrupt, tear, Path.mkdir])
def test_unusable_file_disables_the_cache_and_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, spoil: Callable[[Path], object]
) -> None:
    spoil(tmp_path / "c")
    clock = FakeClock()
    cache: StaleCache[int] = StaleCache("c", open_store(f"file://{tmp_path / 'c'}"), max_stale_age=60, clock=clock)
    for number in range(3):
        assert cache.call("k", lambda n=number: n).value == number  # type: ignore[misc]  # a lambda's default
        clock.advance(2)
    assert len(caplog.records) == 1
    assert str(tmp_path / "c") in caplog.text


def test_missing_directory_disables_the_cache(tmp_path: Path) -> None:
    cache: StaleCache[int] = StaleCache("c", open_store(f"file://{tmp_path / 'none' / 'c'}"), max_stale_age=60)
    assert cache.call("k", int).value == 0


def test_value_from_the_future_is_missing_and_replaceable(tmp_path: Path) -> None:
    clock = FakeClock(10_000)
    store = FileStore(tmp_path / "c", 2, clock)
    for key in ("k", "other"):
        store.put(key, b"before", 0)
    clock.advance(-5_000)
    assert store.get("k") is None
    store.put("k", b"after", SECOND)
    store.put("new", b"v", 0)
    assert store.get("k") == (b"after", SECOND)
    assert store.get("new") == (b"v", 0)
    clock.advance(6_000)
    assert store.get("other") is None


def test_value_outlives_the_process_that_stored_it(tmp_path: Path) -> None:
    url = f"file://{tmp_path / 'c'}"
    assert in_child(lambda: open_store(url).put("k", b"v", 0)) == 0
    found = open_store(url).get("k")
    assert found and found[0] == b"v"


def test_store_used_before_fork_works_in_child_and_parent(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "c")
    store.put("a", b"parent", 0)

    def work() -> None:
        assert store.get("a")
        store.put("b", b"child", 0)

    assert all(in_child(work) == 0 for _ in range(20))
    found = store.get("b")
    assert found and found[0] == b"child"
    store.put("c", b"parent", 0)
    assert store.get("c")


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_forks_while_threads_write_block_no_child_and_lose_nothing(tmp_path: Path) -> None:
    file = HostFile(tmp_path / "c", (COUNTER,), lock_timeout=5)
    done, counted = threading.Event(), [0, 0, 0]

    def work(index: int) -> None:
        while not done.wait(0.0002):
            file.write(count)
            counted[index] += 1

    threads = [threading.Thread(target=work, args=(index,)) for index in range(3)]
    for thread in threads:
        thread.start()
    try:
        assert all(in_child(lambda: file.write(count)) == 0 for _ in range(100))
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert file.read("SELECT n FROM counter") == (sum(counted) + 100,)
    assert file.read("PRAGMA integrity_check") == ("ok",)


_file: list[HostFile] = []


def _open(path: str) -> None:
    _file[:] = [HostFile(path, (COUNTER,), lock_timeout=5)]


def _count_often(times: int) -> None:
    for _ in range(times):
        _file[0].write(count)


def _hold() -> None:
    def work(connection: sqlite3.Connection) -> None:
        count(connection)
        threading.Event().wait(60)

    _file[0].write(work)


def test_processes_that_open_a_new_file_at_once_all_write_to_it(tmp_path: Path) -> None:
    with workers(4) as processes:
        for process in processes:
            process.call(_open, str(tmp_path / "c"))
        for process in processes:
            process.send(_count_often, 200)
        for process in processes:
            process.call(int)
    assert HostFile(tmp_path / "c", (COUNTER,), 1).read("SELECT n FROM counter") == (800,)


def test_process_stopped_in_a_transaction_delays_writers_only_until_the_lock_timeout(
    tmp_path: Path,
) -> None:
    file = HostFile(tmp_path / "c", (COUNTER,), lock_timeout=0.02)
    file.write(count)
    with workers(1) as (process,):
        process.call(_open, str(tmp_path / "c"))
        process.send(_hold)
        deadline = time.monotonic() + 10
        while _writes(file):
            assert time.monotonic() < deadline
        process.stop()
        before = file.read("SELECT n FROM counter")
        begin = time.monotonic()
        with pytest.raises(StoreError, match="locked"):
            file.write(count)
        assert time.monotonic() - begin < 0.2
        process.resume()
        process.kill()
    assert file.write(count) == before[0] + 1, "what was not committed is gone"


def _writes(file: HostFile) -> bool:
    try:
        return bool(file.write(count))
    except StoreError:
        return False


def test_threads_share_one_connection_and_leave_no_descriptor(tmp_path: Path) -> None:
    file = HostFile(tmp_path / "c", (COUNTER,), lock_timeout=5)
    threads = [threading.Thread(target=lambda: [file.write(count) for _ in range(50)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert file.write(count) == 401


def test_failed_transaction_is_rolled_back(tmp_path: Path) -> None:
    file = HostFile(tmp_path / "c", (COUNTER,), lock_timeout=1)
    file.write(count)

    def work(connection: sqlite3.Connection) -> None:
        count(connection)
        raise KeyError

    with pytest.raises(KeyError):
        file.write(work)
    assert file.write(count) == 2


def test_use_of_a_file_inside_its_own_transaction_is_a_store_error(tmp_path: Path) -> None:
    file = HostFile(tmp_path / "c", (COUNTER,), lock_timeout=1)
    with pytest.raises(StoreError, match="the code that was interrupted"):
        file.write(lambda _: file.write(count))
    assert file.write(count) == 1


FULL = """
import sys
from cb.resilience import StaleCache, open_store
from cb.resilience import RateLimit

directory = sys.argv[1]

def fill():
    try:
        with open(f"{directory}/hog", "ab", 0) as file:
            while True:
                file.write(bytes(4096))
    except OSError:
        pass

if sys.argv[2] == "before":
    fill()
limit = RateLimit("100000/second", f"file://{directory}/rate", name="k")
cache = StaleCache("c", open_store(f"file://{directory}/answers"), max_stale_age=60)
limit.acquire()
cache.call("k", int)
fill()
for number in range(500):
    limit.acquire(f"caller {number}")
    assert cache.call(f"key {number}", lambda: "v" * 300).value
"""


@pytest.mark.parametrize("when", ["before", "after"])
def test_full_file_system_fails_no_call(tmp_path: Path, when: str) -> None:
    mount = 'mount -t tmpfs -o size=400k tmpfs "$1" && exec "$2" -c "$3" "$1" "$4"'
    command = ["unshare", "--map-root-user", "--mount", "sh", "-c", mount, "sh", str(tmp_path), sys.executable, FULL]
    ran = subprocess.run([*command, when], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "store unavailable" in ran.stderr


def test_greenlet_that_waits_for_a_lock_blocks_no_other_greenlet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, main = HostFile(tmp_path / "f", (COUNTER,), lock_timeout=5), greenlet.getcurrent()
    file.write(count)
    busy = sqlite3.connect(tmp_path / "f", isolation_level=None)
    busy.execute("BEGIN IMMEDIATE")
    # As with gevent, patched after the import of this package.
    monkeypatch.setattr("cb.resilience.host_file.time", SimpleNamespace(sleep=lambda _: main.switch()))

    waiting = greenlet.greenlet(partial(file.write, count))
    waiting.switch()

    assert file.read("SELECT n FROM counter") == (1,)
    busy.execute("ROLLBACK")
    assert waiting.switch() == 2
    file.close()
    busy.close()
