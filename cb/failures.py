"""The last failure of a breaker, as its ledger keeps it for all processes."""

from dataclasses import dataclass
from typing import Any

from .clocks import timestamp

#: kinds of failure without an exception: a result that `failed_result` rejects, a running call that has exceeded
#: `call_timeout`, a probe without a result in time, a probe that succeeded too slowly, and a call whose process ended
RESULT, CALL_TIMEOUT, PROBE_TIMEOUT = "result", "call_timeout", "probe_timeout"
SLOW_PROBE, WORKER_ENDED = "slow_probe", "worker_ended"
#: kinds of calls that have no result
UNFINISHED = frozenset({CALL_TIMEOUT, PROBE_TIMEOUT, WORKER_ENDED})
_WITHOUT_EXCEPTION = UNFINISHED | {RESULT, SLOW_PROBE}


@dataclass(frozen=True, slots=True)
class LastFailure:
    """The latest failure of all processes."""

    #: seconds since the failure
    ago: float
    #: name of the exception's class, or `result`, `call_timeout`, `probe_timeout`, `slow_probe` or `worker_ended`
    type: str
    #: HTTP status that the exception carries; None without one
    status: int | None = None
    #: first line of the exception's message without credentials, truncated; may be empty
    message: str = ""
    #: process id of the worker that had the failure, after its name if it has one; empty if unknown
    worker: str = ""

    def __str__(self) -> str:
        """Return one line: class, message and worker."""
        status = f"status {self.status}" if self.status and f"{self.status}" not in self.message else ""
        text = ", ".join(part for part in (self.message, status) if part)
        if self.type not in _WITHOUT_EXCEPTION or not text:
            text = f"{self.type}: {text}" if text else self.type
        return f"{text} (worker {self.worker})" if self.worker and self.type != WORKER_ENDED else text

    def as_dict(self, now: float) -> dict[str, Any]:
        """Return the failure as a JSON object. `now` is in seconds since the epoch."""
        return {
            "at": timestamp(now - self.ago),
            "type": self.type,
            "status": self.status,
            "message": self.message,
            "worker": self.worker,
        }
