"""Samples of running services: processes, files and metrics."""

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import requests

#: series that never decrease: counters and counts of histograms
_GROWS = re.compile(r"^(\w+(?:_total|_count|_sum|_bucket)(?:\{[^}]*\})?) (\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Process:
    """One process of a service, at one moment."""

    pid: int
    #: CPU seconds used; an idle process is not warm at any age
    worked: float
    #: unshared memory in bytes
    memory: int
    descriptors: int


@dataclass(frozen=True, slots=True)
class Sample:
    """A service at one moment."""

    #: seconds since the start of the run
    at: float
    master: Process
    workers: list[Process]
    #: files in the state directory of all services
    files: int


def sample(master: psutil.Process, state: Path, at: float) -> Sample:
    """Sample a service. Workers that end meanwhile are left out."""
    return Sample(at, _look(master), list(_workers(master)), sum(1 for path in state.rglob("*") if path.is_file()))


def counters(url: str, session: requests.Session) -> dict[str, float]:
    """Return the values of all counters from one worker, by series."""
    answer = session.get(f"{url}/metrics", timeout=10)
    answer.raise_for_status()
    return {series: float(value) for series, value in _GROWS.findall(answer.text)}


def _workers(master: psutil.Process) -> Iterator[Process]:
    for child in master.children():
        with suppress(psutil.Error):
            yield _look(child)


def _look(process: psutil.Process) -> Process:
    times = process.cpu_times()
    return Process(process.pid, times.user + times.system, process.memory_full_info().uss, process.num_fds())
