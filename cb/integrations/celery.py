"""Tasks of Celery whose calls a circuit rejects: they come back later, without spending one of their `max_retries`.

    app = Celery("mailer", task_cls=BreakerTask)

A soft time limit is an interruption, for all breakers of a process that has imported this module: it counts as neither
success nor failure, or, after the threshold for slow calls, as a slow failure.
"""

import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

from cb.clocks import spread, wall
from cb.config import to_seconds
from cb.errors import ConfigError, RejectedError
from cb.extras import needs
from cb.guard import Guard
from cb.state.outcome import add_interruption

with needs("celery", "celery", "billiard"):
    from billiard.exceptions import SoftTimeLimitExceeded
    from celery import Task
    from celery.exceptions import Reject, Retry, TaskPredicate

__all__ = ["BreakerTask"]

R = TypeVar("R")

#: header of a message: when the task was first rejected, in seconds since the epoch
_REJECTED_SINCE = "cb_rejected_since"
#: seconds after which a rejected task asks again at the latest. A worker holds a task until then, and a broker may
#: deliver one again that is held for long.
_LONGEST_WAIT = 300.0
#: seconds until a task asks again whose circuit an operator holds open without end
_HELD_OPEN_WAIT = 60.0

add_interruption(SoftTimeLimitExceeded)


class BreakerTask(Task):  # type: ignore[misc]  # Celery has no types
    """A task class. A `RejectedError` that leaves a task sends it back to its queue, for `retry_after` and a bit more.

    That is no failure, and `request.retries` stays as it is; so does a `self.retry()` of the task itself after a
    rejection, and `autoretry_for`. Groups and chords wait for the task. A task that is called as a function, or runs
    eagerly, raises the error at once.

    Options of the decorator, or attributes of a class derived from this one:

    - `guard`: Breaker, bulkhead or policy around the task as a whole; by default none, where the task calls its
      dependencies through breakers.
    - `give_up_after`: Seconds or a timedelta from the first rejection, after which the task fails with the
      RejectedError; by default an hour. None is without end.
    - `retry_spread`: Seconds or a timedelta after `retry_after` within which tasks come back, each at a moment of its
      own; by default ten.
    """

    abstract = True
    #: breaker, bulkhead or policy around the task; None for none
    guard: Guard | None = None
    #: time from the first rejection until the task fails; None without end
    give_up_after: float | timedelta | None = 3600.0
    #: time within which rejected tasks come back
    retry_spread: float | timedelta = 10.0

    @classmethod
    def on_bound(cls, app: Any) -> None:
        """Check the options. Raises ConfigError."""
        super().on_bound(app)
        for option in ("give_up_after", "retry_spread"):
            value = getattr(cls, option)
            if value is None and option == "give_up_after":
                continue
            if to_seconds(value, option) < 0:
                raise ConfigError(option, "be 0 or more seconds, or a timedelta", value)
        if cls.guard is not None and not callable(getattr(cls.guard, "begin", None)):
            raise ConfigError("guard", "be a breaker, a bulkhead or a policy", cls.guard)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the task, or send it back to its queue. Raises RejectedError where it is called as a function."""
        if self.request.called_directly:
            return self._guarded(super().__call__, *args, **kwargs)
        try:
            return self._guarded(self.run, *args, **kwargs)
        except RejectedError as error:
            raise self.retry(exc=error) from error

    def retry(self, *args: Any, exc: BaseException | None = None, **options: Any) -> Any:
        """Send the task back to its queue, as `Task.retry` does; after a rejection, without spending a retry.

        Args:
            args: As for `Task.retry`.
            exc: The exception; by default the one that is being handled.
            options: As for `Task.retry`. After a rejection, the countdown is at least the time until a call may be
                admitted.
        """
        # The third positional argument of `Task.retry` is `exc` as well.
        error = exc or (args[2] if len(args) > 2 else None) or sys.exc_info()[1]
        if not isinstance(error, RejectedError) or self.request.called_directly:
            return super().retry(*args, **({"exc": exc} if exc is not None else {}), **options)
        now = wall()
        since = float(self.request.get(_REJECTED_SINCE) or now)
        left = None if self.give_up_after is None else since + to_seconds(self.give_up_after, "give_up_after") - now
        # Eager tasks run in their caller, which would be called again and again without a pause.
        if self.request.is_eager or (left is not None and left <= 0):
            raise error
        return self._come_back(args[:2], error, self._wait(error, left), since, options)

    def _come_back(
        self, args: tuple[Any, ...], error: RejectedError, wait: float, since: float, options: dict[str, Any]
    ) -> Retry:
        # Not by Task.retry, which raises the number of retries and compares it with a limit.
        request, throw = self.request, options.pop("throw", True)
        for option in ("eta", "max_retries"):
            options.pop(option, None)
        wait = max(wait, float(options.pop("countdown", None) or 0))
        headers = {**(request.headers or {}), **(options.pop("headers", None) or {}), _REJECTED_SINCE: since}
        message = self.signature_from_request(
            request, *args, countdown=wait, retries=request.retries, headers=headers, **options
        )
        try:
            message.apply_async()
        except Exception as failed:
            raise Reject(failed, requeue=False) from failed  # as Task.retry does
        retry = Retry(exc=error, when=wait, is_eager=False, sig=message)
        if throw:
            raise retry
        return retry

    def _wait(self, error: RejectedError, left: float | None) -> float:
        """Return the seconds until the task comes back."""
        wait = min(_HELD_OPEN_WAIT if error.retry_after is None else error.retry_after, _LONGEST_WAIT)
        wait += spread(to_seconds(self.retry_spread, "retry_spread"), 0, 1)
        return wait if left is None else min(wait, left)

    def _guarded(self, work: Callable[..., R], *args: Any, **kwargs: Any) -> R:
        """Run work through the guard."""
        if self.guard is None:
            return work(*args, **kwargs)
        with self.guard.guard() as call:
            try:
                return work(*args, **kwargs)
            except Retry as retry:
                if retry.exc is None:
                    call.discard()
                else:
                    call.fail(retry.exc)
                raise
            except TaskPredicate:  # Ignore and Reject
                call.discard()
                raise
