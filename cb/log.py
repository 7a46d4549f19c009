"""Logging that never fails its caller.

A log handler of an application may raise, and may itself call through a breaker that has something to log. Neither may
cost a caller its result, or end a thread in the background.
"""

import logging
import sys
import threading
import traceback
from collections.abc import Mapping
from contextlib import suppress

#: what `exc_info` takes: the exception, or true for the one that is being handled
Cause = BaseException | bool | None


class Log:
    """A logger of the standard library of which no exception leaves.

    A line that its own handlers, in the same thread, lead to again is dropped: it would go on without end.
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
        except Exception:  # noqa: BLE001 - of a handler, and no business of the caller
            _report()
        finally:
            lines.pop(message, None)


def _report() -> None:
    """Write an exception of a handler where the standard library writes those that it catches itself."""
    if logging.raiseExceptions and sys.stderr:
        with suppress(Exception):
            traceback.print_exc()
