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

    __slots__ = (
        *("_call", "_observer", "_target", "answered", "deadline", "is_ended", "is_observed"),
        *("left", "limit", "max_bytes", "paused_at"),
    )

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
        self._observer = observer
        self._target = target
        #: True if there is an observer to tell
        self.is_observed = observer is not UNOBSERVED
        #: True after the end has been recorded
        self.is_ended = False
        #: time of the pause; None while the caller waits for the dependency
        self.paused_at: float | None = None
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
        if self.paused_at is None and not self.is_ended:
            self.paused_at = monotonic()
            self._call.pause(answered=self.answered)

    def resume(self) -> None:
        """Continue: the caller waits for the dependency again."""
        if self.paused_at is not None:
            if self.deadline.at is not None:
                self.deadline.at += monotonic() - self.paused_at
            self.paused_at = None
            self._call.resume()

    def time_left(self) -> float:
        """Return the seconds until the deadline, 0 after it. There must be one."""
        return max((self.deadline.at or 0.0) - monotonic(), 0.0)

    def received(self, status: int, *, failure: bool, retry_after: float | None = None) -> None:
        """Record status and headers. A status that is a failure is counted at once."""
        self.answered = True
        if self.is_observed and not self.is_ended:
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
        if self.is_ended:
            return
        self.is_ended = True
        if self.paused_at is not None:
            self.resume()
        if error is None:
            self._call.succeed()
        elif isinstance(error, BodyTooLargeError):
            answered(self._call)
        elif is_callers:
            self._call.discard()
        else:
            self._call.fail(error)
        if self.is_observed:
            self._observer.ended(error)
