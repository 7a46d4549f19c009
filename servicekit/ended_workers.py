"""The counts of ended workers, merged into one file: otherwise each would leave two more files for every scrape."""

import json
import os
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client import mmap_dict

from cb.log import Log

log = Log(__name__)

_read: Any = mmap_dict._read_all_values  # noqa: SLF001 - it reads them from a path only, and has no types
_NAME = "ended.json"
_AWAITED = "ended.awaited"
#: kinds that are summed; gauges are removed with their worker
KINDS = ("counter", "histogram")

#: damaged files that have been logged
_told: set[str] = set()

Sums = dict[str, defaultdict[str, float]]


@dataclass(frozen=True, slots=True)
class Ended:
    """The content of the file."""

    #: sums by kind and key
    sums: Sums
    #: files that are included in the sums and may not be removed yet
    folded: frozenset[str] = frozenset()


def request_merging(directory: Path) -> None:
    """Request merging for a directory: its reader supports it. prometheus_client alone does not."""
    try:
        directory.mkdir(mode=0o700, exist_ok=True)  # it may have been removed, and this worker is a successor
        (directory / _AWAITED).touch()
    except OSError as error:
        log.warning("workers do not share their metrics: %s", error)


def is_merging_requested(directory: Path) -> bool:
    """Return True if merging is requested for a directory."""
    return (directory / _AWAITED).exists()


def merge_worker(directory: Path, pid: int) -> None:
    """Add the counts of a worker to those of the ended workers, and remove its files. Only their master may call it.

    A reader that lists the files, reads this one, and then those that it does not include, finds every count once. If
    a listed file is missing, the reader starts again. This holds even if the master is killed in this function.
    """
    ended = read(directory)
    for name in ended.folded:  # which could not be removed before
        (directory / name).unlink(missing_ok=True)
    files = [file for kind in KINDS if (file := directory / f"{kind}_{pid}.db").exists()]
    if not files:
        return
    sums = ended.sums
    for file in files:
        for key, value in values(file):
            sums[kind_of(file)][key] += value
    _write(directory, Ended(sums, frozenset(file.name for file in files)))
    for file in files:
        file.unlink()
    _write(directory, Ended(sums))  # a later worker may have the same pid


def read(directory: Path) -> Ended:
    """Return the counts of the ended workers; none if the file is damaged, which is logged once."""
    file = directory / _NAME
    try:
        found = json.loads(_content(file))
        sums = {
            kind: defaultdict(float, {str(key): float(value) for key, value in found[kind].items()}) for kind in KINDS
        }
        return Ended(sums, frozenset(Path(name).name for name in found["folded"]))
    except FileNotFoundError:
        pass
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        told = str(file) in _told
        _told.add(str(file))
        if not told:
            log.warning("the counts of ended workers cannot be read: %s", error)
    return Ended({kind: defaultdict(float) for kind in KINDS})


def values(file: Path) -> Iterator[tuple[str, float]]:
    """Yield the key and the value of each series. Raises FileNotFoundError."""
    content = _content(file)
    if content:  # empty while a worker creates it, or if it was killed then
        for key, value, *_ in _read(content):
            yield key, value


def kind_of(file: Path) -> str:
    """Return the kind of metrics in a worker's file."""
    return file.name.partition("_")[0]


def _content(file: Path) -> bytes:
    # Neither links nor pipes: a master that is root reads the directory of another user.
    fd = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(fd, "rb") as opened:
        return opened.read()


def _write(directory: Path, ended: Ended) -> None:
    fd, new = tempfile.mkstemp(prefix=f"{_NAME}.", dir=directory)
    try:
        with os.fdopen(fd, "w", encoding="utf-8") as opened:
            opened.write(json.dumps({**ended.sums, "folded": sorted(ended.folded)}))
            owner = directory.stat()
            if owner.st_uid != os.geteuid():
                os.fchown(fd, owner.st_uid, owner.st_gid)
        Path(new).replace(directory / _NAME)
    except BaseException:
        with suppress(OSError):
            Path(new).unlink()
        raise
