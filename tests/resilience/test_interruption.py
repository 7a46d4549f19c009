"""Code that interrupts a transaction, as signal handlers do: it takes no lock with it."""

import sys
from pathlib import Path
from typing import Any

import pytest

from cb.resilience.hostfile import HostFile


def test_interruption_anywhere_in_a_transaction_leaves_the_file_to_others(tmp_path: Path) -> None:
    def file() -> HostFile:
        return HostFile(tmp_path / "c", ("CREATE TABLE IF NOT EXISTS t (n)",), 0.01)

    it, other, left = file(), file(), 0

    def interrupt(frame: Any, event: str, _: object) -> Any:
        nonlocal left
        if frame.f_code.co_name == "transaction" and event == "line":
            left -= 1
            if not left:
                raise KeyboardInterrupt
        return interrupt

    for target in range(1, 5):
        left = target
        sys.settrace(interrupt)
        try:
            with pytest.raises(KeyboardInterrupt):
                it.write(lambda connection: connection.execute("INSERT INTO t VALUES (1)").rowcount)
        finally:
            sys.settrace(None)
        other.write(lambda connection: connection.execute("DELETE FROM t").rowcount)
