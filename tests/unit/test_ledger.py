"""Ledgers in files: shared state, and refused files. docs/rules.md, rules 9, 13 and 14."""

import inspect
import os
import stat
import sys
from pathlib import Path

import pytest

from cb import BreakerConfig, CircuitBreaker, CircuitOpenError, ConfigError, Ledger, LedgerError, State
from cb.ledger import layout as at
from cb.testing import FakeClock

ONE = BreakerConfig(failure_threshold=1)


def _fail(breaker: CircuitBreaker) -> None:
    with pytest.raises(ZeroDivisionError):
        breaker.call(divmod, 1, 0)


def test_two_ledgers_on_one_file_see_the_same_breaker(tmp_path: Path, clock: FakeClock) -> None:
    one, other = (CircuitBreaker("d", ONE, ledger=Ledger.in_file(tmp_path / "l"), clock=clock) for _ in range(2))
    one.call(int)
    other.call(int)
    assert one.snapshot() == other.snapshot()
    assert one.snapshot().totals.successes == 2
    _fail(one)
    with pytest.raises(CircuitOpenError):
        other.call(pytest.fail, "an open circuit let a call through")


def test_failures_of_two_ledgers_on_one_file_add_up_to_one_streak(tmp_path: Path, clock: FakeClock) -> None:
    config = BreakerConfig(failure_threshold=4, failure_rate_threshold=None)
    one, other = (CircuitBreaker("d", config, ledger=Ledger.in_file(tmp_path / "l"), clock=clock) for _ in range(2))
    for breaker in (one, other, one):
        _fail(breaker)
    other.call(int)
    for breaker in (one, other, one):
        _fail(breaker)
    assert one.state is State.CLOSED
    _fail(other)
    assert one.state is State.OPEN


def test_breakers_of_one_ledger_have_separate_states(ledger: Ledger, clock: FakeClock) -> None:
    one, other = CircuitBreaker("one", ONE, ledger=ledger, clock=clock), CircuitBreaker("other", ONE, ledger=ledger)
    _fail(one)
    assert (one.state, other.state) == (State.OPEN, State.CLOSED)
    assert ledger.names() == ["one", "other"]


def test_breaker_created_twice_in_one_ledger_is_one_breaker(ledger: Ledger, clock: FakeClock) -> None:
    one, again = (CircuitBreaker("d", ONE, ledger=ledger, clock=clock) for _ in range(2))
    _fail(one)
    assert again.state is State.OPEN


def test_ledger_file_is_private_and_sparse(tmp_path: Path) -> None:
    CircuitBreaker("d", ledger=Ledger.in_file(tmp_path / "l")).call(int)
    found = (tmp_path / "l").stat()
    assert stat.S_IMODE(found.st_mode) == 0o600
    assert found.st_blocks * 512 <= 96 * 1024


def test_full_ledger_reports_it_and_keeps_counting_its_breakers(clock: FakeClock) -> None:
    ledger = Ledger.in_memory()
    breakers = [CircuitBreaker(str(number), ONE, ledger=ledger, clock=clock) for number in range(at.MAX_RECORDS)]
    CircuitBreaker("more", ledger=ledger)
    assert "holds 1024 breakers, no room for 'more'" in (ledger.degraded or "")
    assert len(ledger.names()) == at.MAX_RECORDS
    _fail(breakers[-1])
    assert [breaker.state for breaker in breakers].count(State.OPEN) == 1


def test_thousand_breakers_of_a_host_fit_and_have_separate_states(tmp_path: Path, clock: FakeClock) -> None:
    ledger = Ledger.in_file(tmp_path / "l")
    breakers = [CircuitBreaker(str(number), ONE, ledger=ledger, clock=clock) for number in range(1000)]
    for breaker in breakers:
        breaker.call(int)
    _fail(breakers[777])
    assert [breaker.name for breaker in breakers if breaker.state is State.OPEN] == ["777"]
    assert {breaker.snapshot().totals.successes for breaker in breakers} == {1}
    assert (tmp_path / "l").stat().st_blocks * 512 <= 1000 * 256 * 1024 + at.HEADER * 8


def test_record_is_at_most_256_kib() -> None:
    assert at.RECORD * 8 <= 256 * 1024


def test_replaced_ledger_file_is_detected(tmp_path: Path, clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    breaker = CircuitBreaker("d", ONE, ledger=Ledger.in_file(tmp_path / "l"), clock=clock)
    breaker.control.evaluate()
    assert breaker.ledger.degraded is None
    (tmp_path / "l").unlink()
    Ledger.in_file(tmp_path / "l")
    clock.advance(1)
    breaker.control.evaluate()
    breaker.control.evaluate()
    assert "was removed or replaced" in (breaker.ledger.degraded or "")
    assert len(caplog.records) == 1


@pytest.mark.parametrize("name", ["", "x" * 129, "a\nb", "ü" * 65])
def test_invalid_name_is_refused(ledger: Ledger, name: str) -> None:
    with pytest.raises(ConfigError, match="name must be 1 to 128 printable bytes"):
        CircuitBreaker(name, ledger=ledger)
    assert ledger.names() == []


def test_file_that_is_no_ledger_is_refused_and_not_changed(tmp_path: Path) -> None:
    path = tmp_path / "l"
    path.write_text("my thesis" * 100)
    path.chmod(0o600)
    with pytest.raises(LedgerError, match="is not a ledger"):
        Ledger.in_file(path)
    assert path.read_text() == "my thesis" * 100


def test_file_that_others_may_write_is_refused(tmp_path: Path) -> None:
    Ledger.in_file(tmp_path / "l")
    (tmp_path / "l").chmod(0o620)
    with pytest.raises(LedgerError, match="mode 0600"):
        Ledger.in_file(tmp_path / "l")


def test_symlink_is_refused(tmp_path: Path) -> None:
    Ledger.in_file(tmp_path / "real")
    (tmp_path / "l").symlink_to(tmp_path / "real")
    with pytest.raises(LedgerError, match="cannot be opened"):
        Ledger.in_file(tmp_path / "l")


def _overwrite(path: Path, cell: int, value: int) -> None:
    with path.open("r+b") as file:
        file.seek(cell * 8)
        file.write(value.to_bytes(8, sys.byteorder))


def test_circuit_whose_reset_was_killed_halfway_sends_a_probe(tmp_path: Path, clock: FakeClock) -> None:
    config = BreakerConfig(failure_threshold=1, max_requests=1, success_threshold=1)
    breaker = CircuitBreaker("d", config, ledger=Ledger.in_file(tmp_path / "l"), clock=clock)
    _fail(breaker)
    _overwrite(tmp_path / "l", at.HEADER + at.UNTIL, 0)  # as after a reset that was killed before it stored the state
    assert breaker.call(int) == 0
    assert breaker.state is State.CLOSED


def test_ledger_of_another_version_is_refused(tmp_path: Path) -> None:
    Ledger.in_file(tmp_path / "l")
    _overwrite(tmp_path / "l", at.H_VERSION, 99)
    with pytest.raises(LedgerError, match="has version 99, not 3"):
        Ledger.in_file(tmp_path / "l")


def test_rolling_upgrade_from_format_2_leaves_its_file_to_the_old_workers(tmp_path: Path) -> None:
    old = tmp_path / "name.v2.ledger"
    Ledger.in_file(old)
    _overwrite(old, at.H_VERSION, 2)
    before = old.read_bytes()[:4096]
    breaker = CircuitBreaker("d", ledger=Ledger.open("shm://name", tmp_path))
    breaker.call(int)
    assert (breaker.ledger.degraded, breaker.ledger.path) == (None, str(tmp_path / "name.v3.ledger"))
    assert old.read_bytes()[:4096] == before
    with pytest.raises(LedgerError, match="has version 2, not 3"):
        Ledger.in_file(old)


def test_truncated_ledger_is_refused(tmp_path: Path) -> None:
    Ledger.in_file(tmp_path / "l")
    os.truncate(tmp_path / "l", 4096)
    with pytest.raises(LedgerError, match="has 4096 bytes"):
        Ledger.in_file(tmp_path / "l")


def test_url_names_the_kind_of_ledger(tmp_path: Path) -> None:
    assert Ledger.open("memory://").scope == "process"
    assert Ledger.open(f"file://{tmp_path}/l").scope == "host"
    assert Ledger.open("shm://name", tmp_path).scope == "host"
    assert (tmp_path / "name.v3.ledger").exists()


@pytest.mark.parametrize("variable", ["CB_STATE_DIR", "RUNTIME_DIRECTORY"])
def test_environment_names_the_directory_of_shm_ledgers(
    tmp_path: Path, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CB_STATE_DIR", "RUNTIME_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, str(tmp_path / "state"))
    assert Ledger.open("shm://name").path == str(tmp_path / "state/name.v3.ledger")
    assert Ledger.open("shm://name", tmp_path / "own").path == str(tmp_path / "own/name.v3.ledger")


def test_directory_that_others_may_write_to_is_not_used(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    ledger = Ledger.open("shm://name", tmp_path)
    assert "this user alone may write" in (ledger.degraded or "")


@pytest.mark.parametrize("url", ["", "redis", "shm://", "shm://a/b", "memory://x", "http://localhost"])
def test_url_that_names_no_ledger_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="url must be memory://"):
        Ledger.open(url)


def test_ledger_that_cannot_be_opened_degrades_to_memory_with_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "l").mkdir()
    ledger = Ledger.open(f"file://{tmp_path}/l")
    assert ledger.scope == "process"
    assert "cannot be opened" in (ledger.degraded or "")
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    CircuitBreaker("d", ledger=ledger).call(int)


def test_closed_ledger_gives_up_its_shard_and_its_roles_and_its_breakers_go_on_in_memory(tmp_path: Path) -> None:
    ledger, other = Ledger.in_file(tmp_path / "l"), Ledger.in_file(tmp_path / "l")
    breaker = CircuitBreaker("d", ledger=ledger)
    guarded = breaker(int)
    guarded()
    assert ledger.core.elect("role") and not other.core.elect("role")
    ledger.close()
    assert (guarded(), breaker.call(int), ledger.scope, ledger.degraded) == (0, 0, "process", None)
    assert (other.workers(), other.core.elect("role")) == (0, True)
    assert CircuitBreaker("d", ledger=other).snapshot().totals.successes == 1, "calls after the end are not in the file"
    ledger.close()


def test_ledger_is_closed_at_the_end_of_its_block(tmp_path: Path) -> None:
    with Ledger.in_file(tmp_path / "l") as ledger:
        CircuitBreaker("d", ledger=ledger).call(int)
        assert ledger.workers() == 1
    assert Ledger.view(tmp_path / "l").workers() == 0


def test_ledger_that_waits_for_its_file_tries_no_more_once_it_is_closed(tmp_path: Path) -> None:
    (tmp_path / "l").mkdir()
    ledger = Ledger.open(f"file://{tmp_path}/l")
    ledger.close()
    (tmp_path / "l").rmdir()
    ledger.core.retry_open(1 << 62)
    assert (ledger.scope, (tmp_path / "l").exists()) == ("process", False)


def test_repr_of_a_ledger_tells_place_size_and_sharing(tmp_path: Path) -> None:
    assert repr(Ledger.in_memory()) == "<Ledger memory, 0 breakers, this process>"
    ledger = Ledger.open("shm://shop", tmp_path)
    CircuitBreaker("d", ledger=ledger)
    assert repr(ledger) == "<Ledger shm://shop, 1 breaker, shared by host>"
    assert repr(Ledger.view(ledger.path)) == f"<Ledger {ledger.path}, 1 breaker, read-only>"
    (tmp_path / "x").mkdir()
    assert "this process, degraded: ledger" in repr(Ledger.open(f"file://{tmp_path}/x"))


def test_public_methods_of_a_ledger_are_at_most_ten() -> None:
    public = {name: value for name, value in inspect.getmembers(Ledger) if not name.startswith("_")}
    assert len([name for name, value in public.items() if callable(value)]) <= 10
    assert {name for name, value in public.items() if not callable(value)} == {"scope", "path", "degraded", "programs"}
    parameters = {
        parameter for value in public.values() if callable(value) for parameter in inspect.signature(value).parameters
    }
    assert not parameters & {"now", "clock"}


def test_locks_in_a_directory_that_others_may_write_to_are_refused(tmp_path: Path) -> None:
    (tmp_path / "l.locks").mkdir()
    (tmp_path / "l.locks").chmod(0o777)
    with pytest.raises(LedgerError, match="this user alone"):
        Ledger.in_file(tmp_path / "l")


@pytest.mark.parametrize("size", [10, 4096, 2**28])
def test_file_of_zeros_that_is_no_ledger_is_left_alone(tmp_path: Path, size: int) -> None:
    path = tmp_path / "disk.img"
    path.touch(mode=0o600)
    os.truncate(path, size)
    with pytest.raises(LedgerError, match="is not a ledger"):
        Ledger.in_file(path)
    assert path.stat().st_size == size
