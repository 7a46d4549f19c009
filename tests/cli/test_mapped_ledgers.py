"""Discovery of the ledgers that running services of this user have mapped."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cb.cli.ledgers import ledger_paths
from cb.cli.running import mapped_files
from tests.cli.conftest import cb, start

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux lists the mapped files of processes")


@pytest.fixture
def odd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Yield the ledger of a running service, in a directory that no setting names."""
    monkeypatch.delenv("CB_STATE_DIR", raising=False)
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path / "nothing"))
    directory = tmp_path / "two  words\nand a line \udcff"
    directory.mkdir(mode=0o700)
    service = start(directory)
    yield directory / "shop.v3.ledger"
    service.communicate()


def found() -> set[str]:
    return {each["path"] for each in json.loads(cb("status", "--json").stdout)["ledgers"]}


def test_ledger_of_a_running_service_is_found_in_any_directory(odd: Path) -> None:
    assert odd in mapped_files(".v3.ledger")
    assert str(odd) in found()


def test_ledger_of_any_name_is_found_while_a_process_has_it_open_and_later_in_its_directory(
    odd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    for name in ("exchange.ledger", "state"):
        service = start(tmp_path, f"file://{home / name}")
        assert home / name in ledger_paths([])
        service.communicate()
        assert home / name not in ledger_paths([])
    (home / "general.ledger").write_text("accounts")  # of another program
    (home / "link.ledger").symlink_to("exchange.ledger")
    monkeypatch.chdir(home)
    assert {path for path in ledger_paths([]) if path.parent == home} == {home / "exchange.ledger"}
    assert ledger_paths(["exchange.ledger"]) == [home / "exchange.ledger"]
    monkeypatch.setenv("CB_STATE_DIR", str(tmp_path / "nothing"))
    assert ledger_paths([]) == []


def test_ledger_of_an_ended_service_is_not_found(odd: Path, tmp_path: Path) -> None:
    service = start(tmp_path, "shm://gone")
    assert str(tmp_path / "gone.v3.ledger") in found()
    service.communicate()
    assert str(tmp_path / "gone.v3.ledger") not in found()


def test_deleted_ledger_is_not_found(odd: Path) -> None:
    odd.unlink()
    assert odd not in mapped_files(".v3.ledger")


def test_set_directory_is_the_only_one_searched(odd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CB_STATE_DIR", str(tmp_path / "state"))
    ran = cb("status", "--json")
    assert (ran.returncode, json.loads(ran.stdout)["ledgers"]) == (3, [])


def test_processes_that_end_or_cannot_be_read_are_skipped(odd: Path, tmp_path: Path) -> None:
    for pid in "1234":
        (tmp_path / pid).mkdir()
    (tmp_path / "3" / "maps").write_text(
        f"7f00-7f10 rw-s 00000000 00:1a 2 /{'x' * 5000}.v3.ledger\n"
    )  # longer than any path may be
    (tmp_path / "4" / "maps").write_bytes(b"7f00-7f10 rw-s 00000000 00:1a 2 %s\n" % bytes(odd).replace(b"\n", b"\\012"))
    (tmp_path / "2" / "maps").write_text(
        "7f00-7f10 rw-s 00000000 00:1a 2 /nowhere/x.v3.ledger\n7f20-7f30 rw-p 0 00:00 0\n"
    )
    (tmp_path / "self").symlink_to("2")
    assert mapped_files(".v3.ledger", tmp_path) == {odd}


def test_breaker_in_two_ledgers_of_the_same_name_is_controlled_only_in_a_named_one(odd: Path, tmp_path: Path) -> None:
    other = start(tmp_path)
    try:
        ran = cb("force-open", "bank")
        assert (ran.returncode, ran.stdout) == (2, "")
        assert "nothing was changed" in ran.stderr
        assert str(tmp_path / "shop.v3.ledger") in ran.stderr
        ran = cb("force-open", "bank", "--ledger", "shop")
        assert (ran.returncode, ran.stdout) == (2, "")
        assert "must be the path of one of " in ran.stderr
        assert str(tmp_path / "shop.v3.ledger") in ran.stderr
        assert cb("force-open", "bank", "--ledger", str(tmp_path / "shop.v3.ledger")).returncode == 0
        seen = {each["name"]: each for each in json.loads(cb("status", "--json").stdout)["ledgers"]}
        assert seen[str(tmp_path / "shop.v3.ledger")]["breakers"]["bank"]["state"] == "FORCED_OPEN"
        assert seen[str(odd)]["breakers"]["bank"]["state"] == "CLOSED"
    finally:
        other.communicate()
