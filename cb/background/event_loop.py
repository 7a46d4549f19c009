"""The event loop that runs in this thread, if one does: asyncio's or trio's.

Nothing of this library may hold a loop: on one, a lock that is taken is not waited for. Neither library is imported
here: a program that runs a loop has imported its module.
"""

import sys
import threading
from collections.abc import Callable
from typing import Any, TypeVar

R = TypeVar("R")

#: seconds to wait on a loop for a lock that is needed once, when a breaker is created or an operator acts
_GRACE_SECONDS = 0.0005
#: the same while the loop has no other task: servers import an app on their loop before it serves
_ALONE_SECONDS = 0.25
#: timeouts from which a wait is one of those
_LONG_SECONDS = 0.1


def on_event_loop() -> bool:
    """Return True if an event loop runs in this thread."""
    events = sys.modules.get("asyncio.events")
    # Without the attribute it is being imported just now, by another thread.
    running = getattr(events, "_get_running_loop", None)
    return (running is not None and running() is not None) or in_trio()


def in_trio() -> bool:
    """Return True if trio's loop runs in this thread."""
    trio = sys.modules.get("trio")
    lowlevel = getattr(trio, "lowlevel", None)
    if lowlevel is None:
        return False
    try:
        return lowlevel.current_task() is not None
    except RuntimeError:
        return False


def in_asyncio_task() -> bool:
    """Return True if a task of asyncio runs in this thread. It may run within trio, or trio within its loop."""
    asyncio = sys.modules.get("asyncio")
    current_task = getattr(asyncio, "current_task", None)
    if current_task is None:
        return False
    try:
        return current_task() is not None
    except RuntimeError:
        return False


def task_number() -> int:
    """Return a number of the running task; of the thread, if none runs."""
    if in_asyncio_task():
        return id(sys.modules["asyncio"].current_task())
    if in_trio():
        return id(sys.modules["trio"].lowlevel.current_task())
    return threading.get_ident()


def patience(seconds: float) -> float:
    """Return the seconds to wait for a lock: the given ones, or, on an event loop, few or none."""
    if not on_event_loop():
        return seconds
    if seconds < _LONG_SECONDS:
        return 0.0
    return _ALONE_SECONDS if _is_alone() else _GRACE_SECONDS


def _is_alone() -> bool:
    """Return True if a loop of asyncio runs in this thread and has no other task that a wait would hold."""
    return in_asyncio_task() and len(sys.modules["asyncio"].all_tasks()) == 1


def can_sleep() -> bool:
    """Return True if `sleep` works in the running code."""
    return in_asyncio_task() or in_trio()


async def sleep(seconds: float) -> None:
    """Suspend the running task. Raises RuntimeError if it is one of another library than asyncio and trio."""
    await module_of_task().sleep(seconds)


def module_of_task() -> Any:
    """Return the module `asyncio` or `trio`, whichever runs the current task. Raises RuntimeError for any other."""
    if in_asyncio_task():
        return sys.modules["asyncio"]
    if in_trio():
        return sys.modules["trio"]
    raise RuntimeError("this coroutine is run by neither asyncio nor trio")


async def in_thread(work: Callable[[], R]) -> R:
    """Return work(), run in a thread: it may wait for a file or a server."""
    module = module_of_task()
    result: R = await (module.to_thread(work) if module.__name__ == "asyncio" else module.to_thread.run_sync(work))
    return result


class Wakeup:
    """Wakes the task that created it. Of a queue of threads it has the method `put`, which any thread may call."""

    def __init__(self) -> None:
        self._module = module_of_task()
        self._woken = False
        #: True once the loop is known to have ended with the task still waiting
        self.gone = False
        self._wake: Callable[[], object] | None = None  # of a wait that goes on
        if self._module.__name__ == "asyncio":
            self._loop = self._module.get_running_loop()
            self._soon = self._loop.call_soon_threadsafe
        else:
            self._soon = self._module.lowlevel.current_trio_token().run_sync_soon

    def __repr__(self) -> str:
        return f"<Wakeup {'set' if self._woken else 'not set'}>"

    def put(self, _: object) -> None:
        """End the wait, or the next one."""
        try:
            self._soon(self._set)
        except RuntimeError:  # the loop has ended
            self.gone = True

    async def wait(self, seconds: float) -> None:
        """Wait until `put` is called, at most so many seconds."""
        if not self._woken:
            await (self._wait_asyncio(seconds) if self._module.__name__ == "asyncio" else self._wait_trio(seconds))
        self._woken = False

    def _set(self) -> None:
        self._woken = True
        if self._wake is not None:
            self._wake()

    async def _wait_asyncio(self, seconds: float) -> None:
        future = self._loop.create_future()

        def finish() -> None:
            if not future.done():
                future.set_result(None)

        timer = self._loop.call_later(seconds, finish)
        self._wake = finish
        try:
            await future
        finally:
            self._wake = None
            timer.cancel()

    async def _wait_trio(self, seconds: float) -> None:
        event = self._module.Event()
        self._wake = event.set
        try:
            with self._module.move_on_after(seconds):
                await event.wait()
        finally:
            self._wake = None
