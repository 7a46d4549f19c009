"""What workers that have ended had counted, in one file: else each would leave two more for every scrape to read."""

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
#: what is added up; gauges say what is so, and go when their worker does
KINDS = ("counter", "histogram")

#: files that have been found damaged
_told: set[str] = set()

Sums = dict[str, defaultdict[str, float]]


@dataclass(frozen=True, slots=True)
class Ended:
    """What is in the file."""

    #: by kind and key
    sums: Sums
    #: files that are in the sums, and may not have been removed yet
    folded: frozenset[str] = frozenset()


def await_ended(directory: Path) -> None:
    """Have the ended folded: whoever reads this directory knows of it. prometheus_client alone does not."""
    try:
        directory.mkdir(mode=0o700, exist_ok=True)  # it may have been removed, and this worker is a successor
        (directory / _AWAITED).touch()
    except OSError as error:
        log.warning("workers do not share their metrics: %s", error)


def is_awaited(directory: Path) -> bool:
    """Return whether the ended of this directory are to be folded."""
    return (directory / _AWAITED).exists()


def fold(directory: Path, pid: int) -> None:
    """Add what a worker has counted to the rest of the ended, and remove its files. For their master alone.

    Whoever lists the files, then reads this one, and then those files that are not in it, finds everything once: if a
    file that it has listed is gone, it has to begin again. Killed in here, a master leaves it so too.
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
    """Return what the ended have counted, nothing if somebody has damaged the file."""
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
            log.warning("what ended workers had counted cannot be read: %s", error)
    return Ended({kind: defaultdict(float) for kind in KINDS})


def values(file: Path) -> Iterator[tuple[str, float]]:
    """Yield the key and the value of each series. Raises FileNotFoundError."""
    content = _content(file)
    if content:  # else a worker may be making it just now, or have been killed when it did
        for key, value, *_ in _read(content):
            yield key, value


def kind_of(file: Path) -> str:
    """Return the kind of the values in a worker's file."""
    return file.name.partition("_")[0]


def _content(file: Path) -> bytes:
    # Of no link and no pipe: a master that is root looks into the directory of another user.
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
