"""`cb` on the ledgers of another user: nothing of theirs is changed, and the command that may change it is printed."""

import os
import pwd
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from cb import BreakerConfig, CircuitBreaker, Ledger
from cb.cli import main
from cb.cli.users import as_user, others, owner_of
from tests.cli.conftest import cb, everything
from tests.support.users import as_nobody

pytestmark = [
    pytest.mark.quiet,  # the command reads all ledgers of the host, also those that other tests create and remove
    pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may change its user"),
]
NAME = f"vendors-{os.getpid()}"


def serve() -> int:
    """Open the circuit of `stock` in a ledger of this user."""
    ledger = Ledger.open(f"shm://{NAME}")
    CircuitBreaker("bank", ledger=ledger).call(abs, -1)
    stock = CircuitBreaker("stock", BreakerConfig(failure_threshold=1), ledger=ledger)
    with suppress(ZeroDivisionError):
        stock.call(divmod, 1, 0)
    return 0


@pytest.fixture(scope="module")
def theirs() -> Iterator[Path]:
    """Yield a ledger of the user `nobody`, in that user's directory of shared memory; its service has ended."""
    directory = Path(f"/dev/shm/cb-{pwd.getpwnam('nobody').pw_uid}")
    existed = directory.exists()
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("CB_STATE_DIR", raising=False)
        patch.delenv("RUNTIME_DIRECTORY", raising=False)
        ran = as_nobody(serve)
    assert ran.returncode == 0, ran.stderr
    yield directory / f"{NAME}.v3.ledger"
    for each in directory.glob(f"{NAME}*"):
        shutil.rmtree(each) if each.is_dir() else each.unlink()
    if not existed and not list(directory.iterdir()):
        directory.rmdir()


@pytest.fixture(autouse=True)
def without_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Search where the command does without $CB_STATE_DIR; root's own directory is an empty one."""
    monkeypatch.delenv("CB_STATE_DIR", raising=False)
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path / "none"))


def test_root_reads_the_ledger_of_another_user(theirs: Path) -> None:
    before = everything(theirs.parent)
    ran = cb("status", "--ledger", str(theirs))
    assert (ran.returncode, ran.stderr) == (0, "")
    assert re.search(rf"^{NAME} +stock +RETIRED", ran.stdout, re.MULTILINE)
    assert everything(theirs.parent) == before


@pytest.mark.parametrize(
    "command",
    [["force-open", "bank", "--reason", "it is down"], ["configure", "bank", "timeout=9s"], ["reset", "stock"]],
)
def test_root_changes_nothing_of_another_user_and_is_told_how(theirs: Path, command: list[str]) -> None:
    before = everything(theirs.parent), {path: path.stat() for path in theirs.parent.glob(f"{NAME}*")}
    ran = cb(*command, "--ledger", str(theirs))
    assert (ran.returncode, ran.stdout) == (3, "")
    assert f"ledger {theirs}: only its owner may change it" in ran.stderr
    told = ran.stderr.splitlines()[-1]
    assert told.startswith(f"cb: it belongs to nobody: sudo -u nobody cb {command[0]} ")
    assert told.endswith(f" --ledger {theirs}")
    assert "'it is down'" in told or "it is down" not in command
    assert before == (everything(theirs.parent), {path: path.stat() for path in theirs.parent.glob(f"{NAME}*")})


def test_root_does_not_create_lock_files_of_another_user(theirs: Path, tmp_path: Path) -> None:
    locks = Path(f"{theirs}.locks")
    locks.rename(tmp_path / "aside")
    try:
        assert cb("reset", "bank", "--ledger", str(theirs)).returncode == 3
        ran = cb("forget", str(theirs))
        assert ran.returncode == 3
        assert f"sudo -u nobody cb forget {theirs}" in ran.stderr
        assert not locks.exists()
    finally:
        shutil.move(tmp_path / "aside", locks)
    assert theirs.exists()


def test_root_is_told_which_other_users_have_ledgers(theirs: Path) -> None:
    for command in (["status"], ["explain", f"missing-{NAME}"]):
        ran = cb(*command)
        (*lines,) = (line for line in ran.stderr.splitlines() if line.startswith("cb: nobody has ledgers ("))
        assert len(lines) == 1, ran.stderr
        (told,) = lines
        assert NAME in told
        assert told.endswith(f": sudo -u nobody cb {' '.join(command)}")
    assert NAME in others({})[theirs.stat().st_uid]


def test_printed_command_works_as_that_user(theirs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RUNTIME_DIRECTORY")  # sudo passes it on to no program
    monkeypatch.delenv("LOGNAME", raising=False)
    monkeypatch.setenv("USER", "nobody")
    ran = as_nobody(lambda: main(["reset", "bank", "--ledger", NAME]))
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith(f"{NAME} bank: CLOSED -> CLOSED, by hand (by nobody)\n")


def test_user_is_told_whose_ledger_cannot_be_read(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="cb-test-", dir="/dev/shm") as directory:
        file = Path(directory) / "shop.v3.ledger"
        file.write_text("private")
        for mode in (0o700, 0o755):
            file.chmod(0o600)
            Path(directory).chmod(mode)
            ran = as_nobody(lambda: main(["status", "--ledger", str(file)]))
            assert ran.returncode == 3
            assert "cannot be opened (Permission denied)" in ran.stderr
            assert ran.stderr.endswith(f"cb: it belongs to root: sudo -u root cb status --ledger {file}\n")


def test_user_without_ledgers_is_told_who_has_some(theirs: Path) -> None:
    root = Path("/dev/shm/cb-0")
    existed = root.exists()
    root.mkdir(mode=0o700, exist_ok=True)
    try:
        ran = as_nobody(lambda: main(["status"]))
        assert (ran.returncode, ran.stdout) == (3, "")
        assert "cb: root has ledgers: sudo -u root cb status\n" in ran.stderr
    finally:
        if not existed:
            root.rmdir()


def test_command_for_another_user_keeps_the_state_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (
        as_user(0, ["status"], {"CB_STATE_DIR": "/srv/my run"}) == "sudo -u root 'CB_STATE_DIR=/srv/my run' cb status"
    )
    assert as_user(987_654, ["status"], {}) == "sudo -u '#987654' cb status"
    monkeypatch.setattr(sys, "argv", ["/srv/app/bin/cb"])  # where sudo finds no program by its name
    assert as_user(0, ["status"], {}) == "sudo -u root /srv/app/bin/cb status"
    monkeypatch.setattr(sys, "argv", ["/usr/local/bin/cb"])
    assert as_user(0, ["status"], {}) == "sudo -u root cb status"


def test_user_is_told_whose_state_directory_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(prefix="cb-test-", dir="/dev/shm") as directory:
        monkeypatch.setenv("CB_STATE_DIR", directory)
        ran = as_nobody(lambda: main(["status"]))
    assert ran.returncode == 3
    assert ran.stderr.splitlines() == [
        f"cb: ledger {directory}: the directory cannot be read (Permission denied)",
        f"cb: it belongs to root: sudo -u root CB_STATE_DIR={directory} cb status",
    ]


def test_directory_that_claims_to_be_of_another_user_is_not_believed() -> None:
    forged = Path("/dev/shm/cb-987654")
    forged.mkdir()
    try:
        assert 987_654 not in others({})
        assert owner_of("/dev/shm/missing") is None  # a directory that all may write to
    finally:
        forged.rmdir()
