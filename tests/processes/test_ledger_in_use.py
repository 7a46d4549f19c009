"""Ledger files and locks truncated, overwritten, removed or closed in use. docs/rules.md, rules 14, 23 and 24."""

import os
import resource
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

import pytest

from cb import BreakerConfig, Bulkhead, CircuitBreaker, CircuitOpenError, Event, Ledger, LedgerDegraded, State
from cb.background.leader import Leader
from cb.ledger import layout as at
from cb.ledger.locks import claim
from cb.testing import FakeClock, Worker, workers
from tests.support.failing import fail

pytestmark = pytest.mark.quiet

CONFIG = BreakerConfig(failure_threshold=3, failure_rate_threshold=None, timeout=60)
#: cell in which the first call of a process counts
LANE = at.HEADER + at.PAGE + at.STRIPES_START + at.STRIPE_CELLS
FILE = at.HEADER * 8 + at.MAX_RECORDS * at.RECORD * 8


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "l"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def breaker(path: Path, clock: FakeClock) -> CircuitBreaker:
    """Return a breaker after two calls and two ticks: the content of its ledger is recorded."""
    breaker = CircuitBreaker("d", CONFIG, ledger=Ledger.in_file(path), clock=clock)
    for _ in range(2):
        breaker.call(int)
        clock.advance(0.2)
        breaker.control.evaluate()
    return breaker


def put(path: Path, cell: int, value: int) -> None:
    """Write a cell as another program would."""
    with path.open("r+b") as file:
        file.seek(cell * 8)
        file.write(value.to_bytes(8, sys.byteorder, signed=True))


def write_over(path: Path, what: bytes) -> None:
    with path.open("r+b") as file:
        file.write(what)


def restore(path: Path) -> None:
    """Overwrite the file with an older copy of it, in place."""
    subprocess.run(["cp", f"{path}.old", str(path)], check=True)


OPEN = """
import os, resource, sys
from cb import CircuitBreaker, Ledger
if len(sys.argv) > 2:
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    held = [os.dup(0) for _ in range(61 - len(os.listdir("/proc/self/fd")) + 1 - int(sys.argv[2]))]
ledger = Ledger.open(f"file://{sys.argv[1]}")
breaker = CircuitBreaker("newcomer", ledger=ledger)
breaker.call(int)
print(ledger.scope, ledger.degraded)
"""


def open_elsewhere(path: Path, *arguments: str, within: tuple[str, ...] = ()) -> str:
    """Open the ledger in a separate process, in some namespaces. Return its scope and the reason if it is degraded."""
    command = [*within, sys.executable, "-c", OPEN, str(path), *arguments]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


def in_namespaces(kinds: str, before: str) -> tuple[str, ...]:
    return ("unshare", "--user", "--map-root-user", *kinds.split(), "sh", "-c", f'{before} && exec "$@"', "sh")


@pytest.mark.parametrize("left", range(6))
def test_new_process_with_few_descriptors_does_not_empty_the_ledger(
    path: Path, breaker: CircuitBreaker, left: int
) -> None:
    fail(breaker, 3)
    assert open_elsewhere(path, str(left)).startswith(("host None", "process ledger"))
    assert (breaker.state, breaker.snapshot().totals.requests, breaker.ledger.degraded) == (State.OPEN, 5, None)


@pytest.mark.parametrize("boot", ["another", "none", "garbage"])
def test_new_process_with_another_boot_id_does_not_empty_the_ledger(
    path: Path, breaker: CircuitBreaker, tmp_path: Path, boot: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "another").write_text("11111111-2222-3333-4444-555555555555\n")
    (tmp_path / "garbage").write_text("unknown\n")
    place = "/proc/sys/kernel/random"
    source, target = (tmp_path / "empty", place) if boot == "none" else (tmp_path / boot, f"{place}/boot_id")
    found = open_elsewhere(path, within=in_namespaces("--mount", f"mount --bind {source} {target}"))
    assert found.startswith("process ledger" if boot == "garbage" else "host None")
    assert breaker.snapshot().totals.requests == 2
    fail(breaker, 3)
    assert breaker.state is State.OPEN


def test_new_process_with_another_clock_does_not_share_a_ledger_in_use(path: Path, breaker: CircuitBreaker) -> None:
    elsewhere = in_namespaces("--time --monotonic 864000 --fork", "true")
    assert "another clock (a time namespace), and other processes have it in use" in open_elsewhere(
        path, within=elsewhere
    )
    assert breaker.snapshot().totals.requests == 2


def test_ledger_of_another_clock_is_created_anew_once_it_is_unused(path: Path) -> None:
    assert open_elsewhere(path, within=in_namespaces("--time --monotonic 864000 --fork", "true")) == "host None"
    assert Ledger.in_file(path).names() == []


@pytest.mark.parametrize("ahead", [True, False])
def test_ledger_without_a_boot_id_is_created_anew_if_its_times_lie_ahead(
    path: Path, tmp_path: Path, ahead: bool
) -> None:
    (tmp_path / "empty").mkdir()
    unknown = in_namespaces("--mount", f"mount --bind {tmp_path / 'empty'} /proc/sys/kernel/random")
    assert open_elsewhere(path, within=unknown) == "host None"
    if ahead:
        put(path, at.HEADER + at.SINCE, time.monotonic_ns() + 10**15)
    fresh = "CircuitBreaker('another', ledger=ledger); print(ledger.names())"
    command = [*unknown, sys.executable, "-c", f"{OPEN}\n{fresh}".replace('"newcomer"', '"another"'), str(path)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == ("['another']" if ahead else "['newcomer', 'another']")


def test_ledger_is_not_created_anew_while_the_lock_of_any_shard_is_held(path: Path) -> None:
    with workers(1) as processes:
        processes[0].call(use, str(path))
    put(path, at.H_BOOT, 12345)
    put(path, at.H_CLOCK, 7)
    held = claim(f"{path}.locks/17")  # as by a process that has lost the file's descriptor
    assert held is not None
    assert "other processes have it in use" in str(Ledger.open(f"file://{path}").degraded)
    held.close()
    assert Ledger.open(f"file://{path}").degraded is None


def use(path: str) -> None:
    CircuitBreaker("d", CONFIG, ledger=Ledger.in_file(path)).call(int)


CUTS: dict[str, Callable[[Path], object]] = {
    "to nothing": lambda path: os.truncate(path, 0),
    "within the header": lambda path: os.truncate(path, 4096),
    "within a row": lambda path: os.truncate(path, at.HEADER * 8 + 4096),
    "and grown again": lambda path: (os.truncate(path, 0), os.truncate(path, FILE)),
}


@pytest.mark.parametrize("cut", CUTS)
def test_all_processes_detach_from_a_truncated_ledger_and_log_it_once(
    path: Path, clock: FakeClock, caplog: pytest.LogCaptureFixture, cut: str
) -> None:
    told: list[Event] = []
    breaker = CircuitBreaker("d", CONFIG, ledger=Ledger.in_file(path), clock=clock, listeners=[told.append])
    breaker.call(int)
    breaker.control.evaluate()
    sibling = CircuitBreaker("d", CONFIG, ledger=Ledger.in_file(path), clock=clock)
    CUTS[cut](path)
    for _ in range(2):
        clock.advance(0.2)
        breaker.control.evaluate()
        sibling.control.evaluate()
    for each in (breaker, sibling):
        assert each.ledger.scope == "process"
        assert "while it was in use" in str(each.ledger.degraded)
        fail(each, 3)
        with pytest.raises(CircuitOpenError):
            each.call(int)
        assert each.snapshot().totals.failures == 3
    assert [type(event) for event in told].count(LedgerDegraded) == 1
    assert len([record for record in caplog.records if "not shared" in record.message]) == 2  # each process


OVERWRITES: dict[str, Callable[[Path], object]] = {
    "zeros": lambda path: write_over(path, bytes(at.HEADER * 8 + at.RECORD * 8)),
    "noise": lambda path: write_over(path, os.urandom(at.HEADER * 8 + at.RECORD * 8)),
    "text": lambda path: write_over(path, b"my thesis" * 10_000),
    "an old copy": restore,
    "its version": lambda path: put(path, at.H_VERSION, 99),
    "the number of rows, negative": lambda path: put(path, at.H_RECORDS, -1),
    "the number of rows, huge": lambda path: put(path, at.H_RECORDS, 2**62),
    "the number of the latest transition": lambda path: put(path, at.H_EVENTS, 2**63 - 1),
    "a state that there is not": lambda path: put(path, at.HEADER + at.WORD, 5 << 16 | 7),
    "no state": lambda path: put(path, at.HEADER + at.WORD, 0),
    "a negative state": lambda path: put(path, at.HEADER + at.WORD, -1),
    "no slice": lambda path: put(path, at.HEADER + at.SLICE, 0),
    "a huge slice": lambda path: put(path, at.HEADER + at.SLICE, 2**63 - 1),
    "a time at the end of all numbers": lambda path: put(path, at.HEADER + at.ORIGIN, 2**63 - 1),
    "a streak at the end of all numbers": lambda path: put(path, at.HEADER + at.STREAK, 2**63 - 1),
    "the failures of a lane": lambda path: put(path, LANE + at.FAILURES, 2**63 - 1),
    "another name": lambda path: put(path, at.HEADER + at.NAME, 0x61),
}


@pytest.mark.parametrize("what", OVERWRITES)
def test_process_detaches_from_an_overwritten_ledger_without_a_failed_call(
    path: Path, breaker: CircuitBreaker, clock: FakeClock, what: str
) -> None:
    shutil.copy(path, f"{path}.old")
    fail(breaker)
    clock.advance(0.2)
    breaker.control.evaluate()
    OVERWRITES[what](path)
    assert breaker.call(int) == 0  # before any check
    fail(breaker)
    clock.advance(0.2)
    breaker.control.evaluate()
    assert breaker.ledger.scope == "process"
    assert "was written over while it was in use" in str(breaker.ledger.degraded)
    with suppress(CircuitOpenError):
        fail(breaker, 3)
    with pytest.raises(CircuitOpenError):
        breaker.call(int)
    breaker.control.reset(reason="test")
    assert (breaker.call(int), breaker.config) == (0, CONFIG)
    assert breaker.ledger.names() == ["d"]


def test_older_copy_restored_after_quick_successes_is_detected(
    path: Path, breaker: CircuitBreaker, clock: FakeClock
) -> None:
    shutil.copy(path, f"{path}.old")
    for _ in range(5):
        breaker.call(int)
    restore(path)
    clock.advance(0.2)
    breaker.control.evaluate()
    assert "was written over while it was in use" in str(breaker.ledger.degraded)


def test_process_detaches_from_a_truncated_ledger_that_cannot_be_extended(
    path: Path, breaker: CircuitBreaker, clock: FakeClock
) -> None:
    os.truncate(path, 0)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        clock.advance(0.2)
        breaker.control.evaluate()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "was cut to 0 bytes" in str(breaker.ledger.degraded)
    assert breaker.call(int) == 0


def test_idle_service_writes_nothing(path: Path, breaker: CircuitBreaker, clock: FakeClock) -> None:
    before = path.read_bytes()
    for _ in range(5):
        clock.advance(0.2)
        breaker.control.evaluate()
    assert path.read_bytes() == before


def test_truncated_ledger_is_created_anew_when_all_have_detached(
    path: Path, breaker: CircuitBreaker, clock: FakeClock
) -> None:
    os.truncate(path, 0)
    assert "is empty, and other processes have it in use" in str(Ledger.open(f"file://{path}").degraded)
    clock.advance(0.2)
    breaker.control.evaluate()
    assert Ledger.open(f"file://{path}").degraded is None


def test_truncated_ledger_kills_no_process_that_is_idle_until_the_watchdog_checks(path: Path) -> None:
    with workers(2) as processes:
        for process in processes:
            process.call(use_again, str(path))
        os.truncate(path, 0)
        time.sleep(1)
        assert [process.call(use_again, str(path)) for process in processes] == ["process", "process"]


@cache
def kept(path: str) -> CircuitBreaker:
    """Create a breaker that this process keeps, and return it."""
    return CircuitBreaker("d", CONFIG, ledger=Ledger.in_file(path))


def use_again(path: str) -> str:
    """Call through the breaker that this process keeps. Return the scope of its ledger."""
    breaker = kept(path)
    breaker.call(int)
    return breaker.ledger.scope


@pytest.fixture
def two(path: Path) -> Iterator[list[Worker]]:
    with workers(2) as processes:
        yield processes


def generations(path: str, times: int) -> list[int]:
    """Change the state very often. Return the generations."""
    breaker = kept(path)
    return [breaker.control.reset(reason="test").generation for _ in range(times)]


def test_lock_of_transitions_that_was_removed_excludes_old_and_new_processes(path: Path, two: list[Worker]) -> None:
    old, new = two
    old.call(generations, str(path), 1)
    Path(f"{path}.locks/transitions").unlink()
    found: dict[Worker, list[int]] = {}
    threads = [
        threading.Thread(target=lambda each=each: found.update({each: each.call(generations, str(path), 2000)}))
        for each in (old, new)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not set(found[old]) & set(found[new])


def test_removed_lock_of_a_shard_is_locked_again(path: Path, breaker: CircuitBreaker, clock: FakeClock) -> None:
    Path(f"{path}.locks/0").unlink()
    clock.advance(0.2)
    breaker.control.evaluate()
    assert claim(f"{path}.locks/0") is None
    assert breaker.ledger.degraded is None
    breaker.call(int)
    assert breaker.snapshot().totals.requests == 3


def test_shard_taken_by_another_process_after_its_lock_was_removed_is_left_to_it(
    path: Path, breaker: CircuitBreaker, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    Path(f"{path}.locks/0").unlink()
    other = CircuitBreaker("d", CONFIG, ledger=Ledger.in_file(path), clock=clock)
    other.call(int)
    clock.advance(0.2)
    other.control.evaluate()
    breaker.control.evaluate()
    before = breaker.snapshot().totals.requests
    for each in (breaker, other):
        for _ in range(100):
            each.call(int)
    assert breaker.snapshot().totals.requests == before + 200
    assert breaker.ledger.scope == "host"
    assert "another process has taken a shard" in caplog.text


def test_counts_of_a_process_that_had_the_shard_meanwhile_are_kept(
    path: Path, breaker: CircuitBreaker, clock: FakeClock
) -> None:
    shutil.rmtree(f"{path}.locks")
    other = CircuitBreaker("d", CONFIG, ledger=Ledger.in_file(path), clock=clock)
    other.call(int)
    other.ledger.close()  # as if it had ended
    clock.advance(0.2)
    breaker.control.evaluate()
    breaker.call(int)
    assert breaker.snapshot().totals.requests == 4
    assert "was removed or replaced" in str(breaker.ledger.degraded)


def test_closed_descriptors_are_opened_again_and_those_of_others_left_alone(path: Path) -> None:
    with workers(1) as processes:
        assert processes[0].call(close_all, str(path)) == (True, 0, [0, 0, 0])


def close_all(path: str) -> tuple[bool, int, list[int]]:
    """Close the descriptors that a daemon would close, and open other files in their place.

    Returns whether the block is owned still, how many calls seem to run, and how much stands in those files.
    """
    breaker = CircuitBreaker("d", CONFIG, ledger=Ledger.in_file(path))
    bulkhead = Bulkhead(breaker, 2)
    bulkhead.call(int)
    kept = {each for each in range(3, 64) if _is_pipe(each)}  # the worker's own pipes
    for each in set(range(3, 64)) - kept:
        with suppress(OSError):
            os.close(each)
    logs = [Path(f"{path}.log{number}").open("w") for number in range(20)]  # noqa: SIM115 - many at once
    time.sleep(0.6)  # the watchdog checks
    bulkhead.call(int)
    fail(breaker, 3)
    assert breaker.state is State.OPEN
    owned = claim(f"{path}.locks/0") is None
    for each in logs:
        each.close()
    return owned, breaker.snapshot().in_flight, [Path(each.name).stat().st_size for each in logs[:3]]


def _is_pipe(number: int) -> bool:
    try:
        return not Path(f"/proc/self/fd/{number}").readlink().is_absolute()
    except OSError:
        return False


def test_role_whose_lock_was_removed_and_taken_by_another_process_ends(path: Path, clock: FakeClock) -> None:
    ledger, ended = Ledger.in_file(path), threading.Event()

    def work(stop: threading.Event) -> None:
        stop.wait(10)
        ended.set()

    leader = Leader(ledger, "auditor", work)
    leader.tick()
    Path(f"{path}.locks/auditor").unlink()
    other = Ledger.in_file(path)
    assert other.core.elect("auditor")
    ledger.core.reap(clock())
    leader.tick()
    assert ended.wait(5)
    assert other.core.has("auditor")
    leader.close()
