"""Logging as JSON: one object per line on standard error, with passwords redacted."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, TextIO

from flask import Flask, Response, g, has_request_context, request

from cb.clocks import perf_counter
from cb.integrations.flask import request_id
from cb.log import Log

from .correlation import trace_ids
from .redaction import Redaction, known_secrets
from .settings_file import SettingsError

_access = Log("servicekit.access")
#: prefixes of polled paths, logged at DEBUG
QUIET = ("/metrics", "/dashboard", "/api/v1/health", "/api/v1/circuit-breaker/status")
#: characters of a message, and of a traceback
_LONGEST = 10_000


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception as error:  # noqa: BLE001 - else logging prints the stack and the arguments, as they are
        return f"{record.msg!s} ({type(error).__name__}: its arguments do not fit)"


def _text(value: object) -> str:
    try:
        return str(value)
    except Exception as error:  # noqa: BLE001 - as above
        return f"{type(value).__name__} ({type(error).__name__}: it cannot be shown)"


class JSONFormatter(logging.Formatter):
    """Formats a record as one line of JSON; `extra={"facts": {...}}` adds members."""

    def __init__(self) -> None:
        super().__init__()
        self.redaction = Redaction()

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "process": record.process,
            "message": _message(record)[:_LONGEST],
        }
        if has_request_context():
            line["request_id"] = request_id()
            line |= trace_ids()
        line.update(getattr(record, "facts", {}))
        if record.exc_info and isinstance(record.exc_info[1], SettingsError):
            line["error"] = str(record.exc_info[1])  # a wrong setting needs no stack trace
        elif record.exc_info:
            line["exception"] = self.formatException(record.exc_info)[-_LONGEST:]
        return self.redaction(json.dumps(line, default=_text))


class StandardError(logging.StreamHandler[TextIO]):
    """Writes to `sys.stderr` as it is when the record is emitted."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)
        self.json = JSONFormatter()
        self.setFormatter(self.json)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]  # read-only here, an attribute in the parent
        return sys.stderr


#: configuration for logging.config.dictConfig and for gunicorn, whose own lines are JSON then too
CONFIG: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"stderr": {"()": StandardError}},
    "root": {"level": "INFO", "handlers": ["stderr"]},
    "loggers": {"gunicorn.error": {"level": "INFO", "handlers": [], "propagate": True}},
}


def init_app(app: Flask) -> None:
    """Log to standard error in this process, with one line for each request of the app."""
    root = logging.getLogger()
    if not any(isinstance(handler, StandardError) for handler in root.handlers):
        root.addHandler(StandardError())
        root.setLevel(logging.INFO)
    if settings := app.extensions.get("settings"):
        for handler in root.handlers:
            if isinstance(handler, StandardError):
                handler.json.redaction.hide(known_secrets(settings))
    # It warns about every request that waits for a thread.
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    app.before_request(_start)
    app.after_request(_end)


def _start() -> None:
    g.started = perf_counter()


def _end(response: Response) -> Response:
    level = logging.DEBUG if request.path.startswith(QUIET) else logging.INFO
    facts = {
        "method": request.method,
        "path": request.path,
        "status": response.status_code,
        "duration_ms": round((perf_counter() - g.started) * 1000, 1),
    }
    message = "%s %s %d"
    _access.log(level, message, request.method, request.path, response.status_code, extra={"facts": facts})
    return response
