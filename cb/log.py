"""Logging that never fails its caller.

A log handler of an application may raise, and may itself call through a breaker that logs. Neither may lose the result
of a call or end a background thread.
"""

import logging
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

#: type of `exc_info`: the exception, or True for the one that is being handled
Cause = BaseException | bool | None


class Log:
    """A logger of the standard library that raises no exception.

    A line that its own handlers cause again, in the same thread, is dropped: otherwise the recursion would not end.
    """

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)
        self._lines = threading.local()

    def debug(self, message: str, *args: object) -> None:
        """Log with level DEBUG."""
        self._log(logging.DEBUG, message, args)

    def info(self, message: str, *args: object, extra: Mapping[str, object] | None = None) -> None:
        """Log with level INFO."""
        self._log(logging.INFO, message, args, extra=extra)

    def warning(
        self, message: str, *args: object, exc_info: Cause = None, extra: Mapping[str, object] | None = None
    ) -> None:
        """Log with level WARNING."""
        self._log(logging.WARNING, message, args, exc_info, extra)

    def error(self, message: str, *args: object, exc_info: Cause = None) -> None:
        """Log with level ERROR."""
        self._log(logging.ERROR, message, args, exc_info)

    def exception(self, message: str, *args: object) -> None:
        """Log with level ERROR, and with the exception that is being handled."""
        self._log(logging.ERROR, message, args, exc_info=True)

    def log(self, level: int, message: str, *args: object, extra: Mapping[str, object] | None = None) -> None:
        """Log with a level."""
        self._log(level, message, args, extra=extra)

    @contextmanager
    def muted(self) -> Iterator[None]:
        """Log nothing inside a block, in any thread: for a command that prints what it has changed."""
        before, self._logger.disabled = self._logger.disabled, True
        try:
            yield
        finally:
            self._logger.disabled = before

    def _log(
        self,
        level: int,
        message: str,
        args: tuple[object, ...],
        exc_info: Cause = None,
        extra: Mapping[str, object] | None = None,
    ) -> None:
        lines: dict[str, bool] = self._lines.__dict__
        if message in lines:
            return
        try:
            lines[message] = True
            self._logger.log(level, message, *args, exc_info=exc_info, extra=extra, stacklevel=3)
        except Exception:  # noqa: BLE001 - raised by a handler, and not meant for the caller
            _report()
        finally:
            lines.pop(message, None)


def _report() -> None:
    """Print an exception of a handler to stderr, as the standard library does with those that it catches."""
    if logging.raiseExceptions and sys.stderr:
        with suppress(Exception):
            traceback.print_exc()
