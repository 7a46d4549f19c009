"""Worker processes of an application, in each of which a library guards calls to the same dependency."""

import logging
import math
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cb.testing import Worker, workers

from .peers import LIBRARIES, Call, Library, Setting

#: Outcomes of a call: it succeeded, it failed, or the circuit rejected it.
ANSWERED, FAILED, REJECTED = "answered", "failed", "rejected"
#: Duration in seconds of a call that hangs.
HANGS = 3600.0


@dataclass(slots=True)
class Dependency:
    """A dependency that takes some time, then succeeds or fails."""

    directory: Path
    fails: bool = False
    #: duration of a call
    seconds: float = 0.0
    #: begin and end of each call that reached it, in seconds of the monotonic clock
    reached: list[tuple[float, float]] = field(default_factory=list)

    def answer(self) -> None:
        begin = time.monotonic()
        if self.seconds == HANGS:
            _hung(self.directory, os.getpid()).touch()
        if self.seconds:
            time.sleep(self.seconds)
        self.reached.append((begin, time.monotonic()))
        if self.fails:
            raise ConnectionError


class WorkerPool:
    """Worker processes that run functions at the same time."""

    def __init__(self, workers: list[Worker], setting: Setting) -> None:
        self.workers = workers
        self._directory = setting.directory

    def all(self, fn: Callable[..., Any], *arguments: object) -> list[Any]:
        """Call a function in all workers at once. Return the results.

        Its first argument is a start time slightly in the future, in seconds of the monotonic clock, by which all
        workers are ready.
        """
        return list(self.begin(fn, *arguments))

    def begin(self, fn: Callable[..., Any], *arguments: object) -> Iterator[Any]:
        """Do the same, and yield the results as they arrive."""
        start = time.monotonic() + 0.02 * len(self.workers)
        with ThreadPoolExecutor(len(self.workers)) as pool:
            yield from pool.map(lambda worker: worker.call(fn, start, *arguments), self.workers)

    def hangs(self, worker: Worker) -> bool:
        """Return True if a worker is in a call that hangs."""
        return _hung(self._directory, worker.process.pid or 0).exists()


@contextmanager
def worker_pool(library: Library, count: int, setting: Setting, *, hosts: bool = False) -> Iterator[WorkerPool]:
    """Run workers on one host, or each on a host of its own. Each has made one successful call."""
    with workers(count, "fork") as started:
        pool_of_workers = WorkerPool(started, setting)
        with ThreadPoolExecutor(count) as pool:
            list(
                pool.map(lambda pair: pair[1].call(_begin, library.name, setting, pair[0] * hosts), enumerate(started))
            )
        yield pool_of_workers


@dataclass(frozen=True, slots=True)
class _Guarded:
    call: Call
    rejection: type[Exception]
    dependency: Dependency


_here: list[_Guarded] = []


def _begin(name: str, setting: Setting, host: int) -> None:
    logging.disable()  # one library logs a traceback for each call without Redis
    library, dependency = LIBRARIES[name], Dependency(setting.directory)

    def work() -> None:
        dependency.answer()

    guarded = library.guard(work, replace(setting, worker=host))
    guarded()
    dependency.reached.clear()
    _here[:] = [_Guarded(guarded, library.rejection, dependency)]


def dependency() -> Dependency:
    """Return the dependency of this worker. Each worker has its own, which may behave differently."""
    return _here[0].dependency


def attempt() -> str:
    """Make a call. Return its outcome, or the name of an error raised by the library itself."""
    here = _here[0]
    try:
        here.call()
    except here.rejection:
        return REJECTED
    except ConnectionError as error:
        return FAILED if type(error) is ConnectionError else type(error).__name__
    except Exception as error:  # noqa: BLE001 - the name of any error is the outcome
        return type(error).__name__
    return ANSWERED


def attempt_until(outcome: str, end: float, pause: float = 0.0) -> float:
    """Call until a call has that outcome. Return the time on the monotonic clock, or infinity if none had by `end`."""
    while time.monotonic() < end:
        if attempt() == outcome:
            return time.monotonic()
        if pause:
            time.sleep(pause)
    return math.inf


def open_all(start: float) -> None:
    """Make failing calls until one is rejected."""
    dependency().fails = True
    wait_until(start)
    if attempt_until(REJECTED, start + 10, 0.001) == math.inf:
        raise TimeoutError("did not open within 10 s")


def wait_until(moment: float) -> None:
    time.sleep(max(moment - time.monotonic(), 0))


def _hung(directory: Path, pid: int) -> Path:
    return directory / f"hangs-{pid}"
