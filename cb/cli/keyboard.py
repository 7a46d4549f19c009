"""Single keys from a terminal, whose settings are restored."""

import os
import select
import sys
import time
from contextlib import suppress
from types import TracebackType
from typing import Any, Self


class Keyboard:
    """Context manager that reads keys without waiting for Enter, and without showing them.

    Without a terminal, or in the background, there are no keys.
    """

    def __init__(self) -> None:
        self._fd: int | None = None
        self._before: list[Any] = []

    def __repr__(self) -> str:
        return f"<Keyboard of fd {self._fd}>"

    def __enter__(self) -> Self:
        with suppress(ImportError, OSError, ValueError):
            import termios  # not above: not on Windows

            fd = sys.stdin.fileno()
            if os.isatty(fd) and os.tcgetpgrp(fd) == os.getpgrp():  # setting a terminal stops a background process
                with suppress(termios.error):
                    self._before = termios.tcgetattr(fd)
                    self._fd = fd
                    self.use()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._fd is not None:
            import termios

            with suppress(termios.error):  # the terminal is gone
                termios.tcsetattr(self._fd, termios.TCSADRAIN, self._before)

    def use(self) -> None:
        """Set the terminal, also after a shell has changed its settings."""
        if self._fd is not None:
            import termios
            import tty

            with suppress(termios.error):
                tty.setcbreak(self._fd, termios.TCSADRAIN)

    def read(self, seconds: float) -> str:
        """Return the keys pressed within a time, at the latest after the first of them; empty without any."""
        if self._fd is None:
            time.sleep(seconds)
            return ""
        try:
            ready, _, _ = select.select([self._fd], [], [], seconds)
            keys = os.read(self._fd, 1024) if ready else b""
        except OSError:  # the terminal is gone
            keys = b""
            ready = [self._fd]
        if ready and not keys:  # its end: it would be ready for good
            self._fd = None
        return keys.decode(errors="replace")
