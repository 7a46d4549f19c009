"""Worker processes of one application, in each of which a library guards the calls to the same dependency."""

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

#: what became of a call: it was answered, it failed, or it was refused and not made
ANSWERED, FAILED, REFUSED = "answered", "failed", "refused"
#: a call that takes as many seconds hangs
HANGS = 3600.0


@dataclass(slots=True)
class Dependency:
    """What is called: it takes some time, then answers or fails."""

    directory: Path
    fails: bool = False
    #: that a call takes
    seconds: float = 0.0
    #: begin and end of each call that got here, in seconds of the monotonic clock
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


class Crew:
    """The workers, and what they do all at once."""

    def __init__(self, workers: list[Worker], setting: Setting) -> None:
        self.workers = workers
        self._directory = setting.directory

    def all(self, fn: Callable[..., Any], *arguments: object) -> list[Any]:
        """Call a function in all workers at once, with a moment as its first argument. Return what each returns.

        The moment is a little later, in seconds of the monotonic clock: all are ready by then.
        """
        return list(self.begin(fn, *arguments))

    def begin(self, fn: Callable[..., Any], *arguments: object) -> Iterator[Any]:
        """Do the same, without waiting for the end."""
        start = time.monotonic() + 0.02 * len(self.workers)
        with ThreadPoolExecutor(len(self.workers)) as pool:
            yield from pool.map(lambda worker: worker.call(fn, start, *arguments), self.workers)

    def hangs(self, worker: Worker) -> bool:
        """Return whether a worker is in a call that hangs."""
        return _hung(self._directory, worker.process.pid or 0).exists()


@contextmanager
def crew(library: Library, count: int, setting: Setting, *, hosts: bool = False) -> Iterator[Crew]:
    """Run workers of one host, or each on a host of its own. They have made one call, which was answered."""
    with workers(count, "fork") as started:
        made = Crew(started, setting)
        with ThreadPoolExecutor(count) as pool:
            list(
                pool.map(lambda pair: pair[1].call(_begin, library.name, setting, pair[0] * hosts), enumerate(started))
            )
        yield made


@dataclass(frozen=True, slots=True)
class _Place:
    guarded: Call
    refused: type[Exception]
    dependency: Dependency


_here: list[_Place] = []


def _begin(name: str, setting: Setting, host: int) -> None:
    logging.disable()  # one logs a traceback for each call without Redis
    library, dependency = LIBRARIES[name], Dependency(setting.directory)

    def work() -> None:
        dependency.answer()

    guarded = library.guard(work, replace(setting, worker=host))
    guarded()
    dependency.reached.clear()
    _here[:] = [_Place(guarded, library.refused, dependency)]


def dependency() -> Dependency:
    """Return what this worker's calls go to. It is the worker's own view of it: others may fare otherwise."""
    return _here[0].dependency


def attempt() -> str:
    """Make a call. Return what became of it, or the name of an error that the library itself has raised."""
    place = _here[0]
    try:
        place.guarded()
    except place.refused:
        return REFUSED
    except ConnectionError as error:
        return FAILED if type(error) is ConnectionError else type(error).__name__
    except Exception as error:  # noqa: BLE001 - whatever it is, the caller gets it
        return type(error).__name__
    return ANSWERED


def attempt_until(outcome: str, end: float, pause: float = 0.0) -> float:
    """Call until one has that outcome. Return when, in seconds of the monotonic clock; infinity if not before `end`."""
    while time.monotonic() < end:
        if attempt() == outcome:
            return time.monotonic()
        if pause:
            time.sleep(pause)
    return math.inf


def open_all(start: float) -> None:
    """Be a worker whose calls fail until they are refused."""
    dependency().fails = True
    wait_until(start)
    if attempt_until(REFUSED, start + 10, 0.001) == math.inf:
        raise TimeoutError("did not open within 10 s")


def wait_until(moment: float) -> None:
    time.sleep(max(moment - time.monotonic(), 0))


def _hung(directory: Path, pid: int) -> Path:
    return directory / f"hangs-{pid}"
