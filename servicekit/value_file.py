"""The values of a process's metrics in a file, in the format of prometheus_client, whose own files can kill it.

Those are sparse and mapped: when the file system is full, a store to a page that has no memory yet ends the process
with SIGBUS, and so every worker that takes its place.
"""

import mmap
import os
import struct
from contextlib import suppress

from cb.background.watchdog import WATCHDOG
from cb.clocks import monotonic
from cb.log import Log

log = Log(__name__)

_INT, _PAIR = struct.Struct("i"), struct.Struct("dd")
#: bytes before the first entry
_HEAD = 8
_PAGE = mmap.PAGESIZE
#: seconds until a process that had no room asks again
_AGAIN = 1.0


class _Complaint:
    """Obstacles, logged once by the watch: prometheus_client holds its lock where they occur."""

    def __init__(self) -> None:
        self._text = ""
        self._told = False
        WATCHDOG.add(self)

    def note(self, text: str) -> None:
        """Have something logged, unless something has been already."""
        self._text = self._text or text

    def tick(self) -> None:
        """Log what has been noted."""
        if self._text and not self._told:
            self._told = True
            log.warning("metrics of this process are not all seen by the others: %s", self._text)


COMPLAINT = _Complaint()


class ValueFile:
    """Takes the place of `MmapedDict`, for one kind of metrics of one process. The caller holds a lock.

    Memory is allocated before it is mapped, a page first and then twice as much each time. A value for which there is
    none is kept by its metric alone, and written once there is room; so is each in a directory that cannot be used.
    """

    def __init__(self, filename: str) -> None:
        self._path = filename
        self._map: mmap.mmap | None = None
        self._positions: dict[str, int] = {}
        self._used = _HEAD
        self._again = 0.0

    def read_value(self, key: str) -> tuple[float, float]:
        """Return a value and its time, zeros for one that is new."""
        position = self._positions.get(key) or self._add(key)
        value, timestamp = _PAIR.unpack_from(self._map, position) if self._map and position else (0.0, 0.0)
        return value, timestamp

    def write_value(self, key: str, value: float, timestamp: float) -> None:
        """Set a value and its time."""
        position = self._positions.get(key) or self._add(key)
        if self._map and position:
            self._map[position : position + _PAIR.size] = _PAIR.pack(value, timestamp)

    def close(self) -> None:
        """Forget the file. In a forked child it is the parent's."""
        self._map = None
        self._positions = {}

    def _add(self, key: str) -> int | None:
        """Make an entry. Return the position of its value, None if there is no room."""
        now = monotonic()
        if now < self._again:
            return None
        try:
            self._map = self._map or self._open()
            if key in self._positions:  # a process with the same id had the file before
                return self._positions[key]
            encoded = key.encode()
            padded = encoded + b" " * (8 - (len(encoded) + _INT.size) % 8)
            entry = _INT.pack(len(encoded)) + padded + _PAIR.pack(0.0, 0.0)
            end = self._used + len(entry)
            if end > len(self._map):
                self._map = self._grown(end)
        except (OSError, ValueError) as error:
            self._again = now + _AGAIN
            COMPLAINT.note(f"{self._path}: {error}")
            return None
        self._map[self._used : end] = entry
        self._map[: _INT.size] = _INT.pack(end)  # last: an entry that counts is complete
        self._used = end
        position = self._positions[key] = end - _PAIR.size
        return position

    def _open(self) -> mmap.mmap:
        opened = _mapped(self._path, _PAGE)
        self._used, self._positions = _HEAD, {}
        with suppress(struct.error, UnicodeDecodeError):  # one that is damaged is begun anew
            used = min(_INT.unpack_from(opened)[0], len(opened))
            positions, at = {}, _HEAD
            while at < used:
                (length,) = _INT.unpack_from(opened, at)
                value = at + _INT.size + length + 8 - (length + _INT.size) % 8
                positions[opened[at + _INT.size : at + _INT.size + length].decode()] = value
                at = value + _PAIR.size
            if at == used:
                self._used, self._positions = used, positions
        opened[: _INT.size] = _INT.pack(self._used)
        return opened

    def _grown(self, size: int) -> mmap.mmap:
        old, capacity = self._map or b"", _PAGE
        while capacity < size:
            capacity *= 2
        grown = _mapped(self._path, capacity)
        grown[: self._used] = old[: self._used]  # the same, unless somebody has removed the file
        return grown


def _mapped(path: str, size: int) -> mmap.mmap:
    """Return a file, made if there is none, that has memory for so many bytes at least."""
    # By its path each time: a daemon may have closed a descriptor, and its number may be another file's by now.
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        size = max(size, -(-os.fstat(fd).st_size // _PAGE) * _PAGE)
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(fd, 0, size)
        elif missing := size - os.fstat(fd).st_size:
            os.pwrite(fd, bytes(missing), size - missing)
        return mmap.mmap(fd, size)
    finally:
        os.close(fd)


def use_value_files() -> None:
    """Have prometheus_client keep the values of all workers in such files, those of metrics made later on."""
    from prometheus_client import values  # not above: it decides at its import whether there are several workers

    values.MmapedDict = ValueFile  # type: ignore[attr-defined, assignment]  # its one user asks for no more
