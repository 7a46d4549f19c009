"""`cb` at a terminal: `watch` ends with a key and restores the terminal, and an ambiguous name asks."""

import os
import pty
import select
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import document, start
from tests.support import ROOT

pytestmark = pytest.mark.skipif(os.name != "posix", reason="ledgers in files need POSIX")


class Terminal:
    """A program with a terminal of its own."""

    def __init__(self, *arguments: str) -> None:
        self.fd, other = pty.openpty()
        self.before = termios.tcgetattr(other)
        command = [sys.executable, "-c", _IN_FOREGROUND, sys.executable, "-m", "cb", *arguments]
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdin=other, stdout=other, stderr=other, text=True, start_new_session=True
        )
        self.other = other

    def read_until(self, wanted: str, seconds: float = 20) -> str:
        """Return the output up to a text. Fails if it does not come."""
        printed = ""
        while wanted not in printed:
            assert select.select([self.fd], [], [], seconds)[0], printed
            printed += os.read(self.fd, 65_536).decode(errors="replace")
        return printed

    def type(self, keys: str) -> None:
        os.write(self.fd, keys.encode())

    def restored(self) -> bool:
        return termios.tcgetattr(self.other) == self.before

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.fd)
        os.close(self.other)


#: makes its standard input the terminal of its session, in which it is in the foreground, and becomes the program
_IN_FOREGROUND = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.fixture
def watch(shop: Path) -> Iterator[Terminal]:
    terminal = Terminal("watch")
    terminal.read_until("q or Ctrl-C ends")
    yield terminal
    terminal.close()


@pytest.mark.parametrize("key", ["q", "\x03", "xyzQ"], ids=["q", "Ctrl-C", "Q after others"])
def test_watch_ends_with_a_key_and_restores_the_terminal(watch: Terminal, key: str) -> None:
    assert not watch.restored()
    watch.type(key)
    watch.read_until("\x1b[?25h")  # shows the cursor again
    assert watch.process.wait(10) == 0
    assert watch.restored()


def test_watch_restores_the_terminal_when_it_is_terminated(watch: Terminal) -> None:
    watch.process.send_signal(signal.SIGTERM)
    assert watch.process.wait(10) == 0
    assert watch.restored()


@pytest.fixture
def both(shop: Path, state: Path) -> Iterator[None]:
    """Run a second service that has the same breakers."""
    other = start(state, "shm://other")
    yield
    other.communicate()


def states() -> dict[str, str]:
    return {each["name"]: each["breakers"]["bank"]["state"] for each in document("status")["ledgers"]}


@pytest.mark.parametrize(
    ("answer", "code", "opened"),
    [("2", 0, {"shop"}), ("a", 0, {"other", "shop"}), ("", 2, set()), ("3", 2, set()), ("\x04", 2, set())],
    ids=["a number", "all", "none", "no such number", "end of input"],
)
def test_ambiguous_name_is_chosen_at_a_terminal(both: None, answer: str, code: int, opened: set[str]) -> None:
    terminal = Terminal("force-open", "bank")
    try:
        asked = terminal.read_until("Enter for none: ")
        assert [line.split()[:3] for line in asked.splitlines()[1:3]] == [
            ["1", "other", "CLOSED"],
            ["2", "shop", "CLOSED"],
        ]
        terminal.type(answer if answer == "\x04" else f"{answer}\n")
        assert terminal.process.wait(10) == code
    finally:
        terminal.close()
    assert {name for name, state in states().items() if state == "FORCED_OPEN"} == opened
