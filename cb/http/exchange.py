"""A request and its response, from admission to the end of the body."""

from collections.abc import Callable

from cb import Call
from cb.clocks import monotonic

from .errors import BodyTooLargeError, FailureStatusError
from .observer import UNOBSERVED, CallObserver
from .timeouts import Deadline


def answered(call: Call) -> None:
    """Settle a call whose response the caller's own limit has ended: neither success nor failure.

    The dependency has answered, which is the verdict on a probe: each round needs one.
    """
    if call.probe:
        call.succeed()
    else:
        call.discard()


class Exchange:
    """A request that was admitted, until the body of its response has been read.

    Args:
        call: The call that was admitted.
        observer: Observer of the request.
        target: Function that returns method and origin, for the texts of errors.
        limit: Time limit in seconds; None for no limit.
        max_bytes: Bytes of the longest body; None for no limit.
    """

    __slots__ = ("_call", "_observer", "_paused_at", "_target", "answered", "deadline", "left", "limit", "max_bytes")

    def __init__(
        self,
        call: Call,
        observer: CallObserver,
        target: Callable[[], str],
        *,
        limit: float | None,
        max_bytes: int | None,
    ) -> None:
        self._call = call
        self._observer: CallObserver | None = observer
        self._paused_at: float | None = None
        self._target = target
        #: time limit in seconds; None for no limit
        self.limit = limit
        #: end of that time; it moves while the exchange is paused
        self.deadline = Deadline()
        if limit is not None:
            self.deadline.at = monotonic() + limit
        #: bytes of the longest body; None for no limit
        self.max_bytes = max_bytes
        #: bytes that may still be received, if there is a limit
        self.left = max_bytes or 0
        #: True after status and headers have been received
        self.answered = False

    @property
    def target(self) -> str:
        """Method and origin of the request, as in `GET https://example.com`."""
        return self._target()

    def pause(self) -> None:
        """Stop deadline and call: the time of the caller does not count."""
        if self._paused_at is None and self._observer is not None:
            self._paused_at = monotonic()
            self._call.pause(answered=self.answered)

    def resume(self) -> None:
        """Continue: the caller waits for the dependency again."""
        if self._paused_at is not None:
            if self.deadline.at is not None:
                self.deadline.at += monotonic() - self._paused_at
            self._paused_at = None
            self._call.resume()

    def time_left(self) -> float:
        """Return the seconds until the deadline, 0 after it. There must be one."""
        return max((self.deadline.at or 0.0) - monotonic(), 0.0)

    def received(self, status: int, *, failure: bool, retry_after: float | None = None) -> None:
        """Record status and headers. A status that is a failure is counted at once."""
        self.answered = True
        if self._observer is not None and self._observer is not UNOBSERVED:
            self._observer.response_received(status)
        if failure:
            self._call.fail(FailureStatusError(status, retry_after, self.target))

    def exceeds(self, received: int) -> bool:
        """Count bytes of the body. Return True if there are more than the limit."""
        if self.max_bytes is None:
            return False
        self.left -= received
        return self.left < 0

    def end(self, error: BaseException | None, *, is_callers: bool = False) -> None:
        """Count the outcome, unless the status has decided it, and end the observation. Only the first call counts."""
        observer, self._observer = self._observer, None
        if observer is None:
            return
        self.resume()
        if error is None:
            self._call.succeed()
        elif isinstance(error, BodyTooLargeError):
            answered(self._call)
        elif is_callers:
            self._call.discard()
        else:
            self._call.fail(error)
        if observer is not UNOBSERVED:
            observer.ended(error)
