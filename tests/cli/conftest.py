"""The command `cb` in a process of its own, and a service whose ledger it finds."""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support import ROOT

#: Service with two failures of `stock`, which opens, and a success of `bank`. It ends when its standard input closes.
SERVICE = """
import sys
from cb import BreakerConfig, CircuitBreaker, Ledger

ledger = Ledger.open(sys.argv[1], sys.argv[2])
stock = CircuitBreaker("stock", BreakerConfig(failure_threshold=2, timeout=3600, timeout_max=3600), ledger=ledger)
CircuitBreaker("bank", ledger=ledger).call(abs, -1)
for _ in range(2):
    try:
        stock.call(divmod, 1, 0)
    except ZeroDivisionError:
        pass
print("ready", flush=True)
sys.stdin.read()
"""


def start(directory: Path, url: str = "shm://shop") -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", SERVICE, url, str(directory)]
    service = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert service.stdout is not None
    assert service.stdout.readline() == "ready\n"
    return service


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the state directory of this test."""
    directory = tmp_path / "state"
    directory.mkdir(mode=0o700)
    monkeypatch.setenv("CB_STATE_DIR", str(directory))
    monkeypatch.setenv("COLUMNS", "200")
    return directory


@pytest.fixture
def shop(state: Path) -> Iterator[Path]:
    """Yield the ledger of a running service."""
    service = start(state)
    yield state / "shop.v3.ledger"
    service.communicate()


def cb(*arguments: str, options: Sequence[str] = ()) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, *options, "-m", "cb", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=30)


def document(*arguments: str) -> Any:
    return json.loads(cb(*arguments, "--json").stdout)


def start_of(path: Path) -> bytes:
    """Return the header and the first two records of a ledger, the only ones that these tests use."""
    with path.open("rb") as file:
        return file.read(700_000)


def everything(directory: Path) -> dict[str, tuple[object, ...]]:
    """Return contents, size, modification time and inode of all files below a directory."""
    files = {path: path.stat() for path in directory.rglob("*") if path.is_file()}
    return {
        str(path): (start_of(path), found.st_size, found.st_blocks, found.st_mtime_ns, found.st_ino)
        for path, found in files.items()
    }
