"""Files of metric values in the format of prometheus_client, whose own files can kill the process.

Those are sparse and mapped: on a full file system, a store to an unallocated page ends the process with SIGBUS, and so
every worker that replaces it.
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
#: seconds until a failed allocation is tried again
_AGAIN = 1.0


class _ErrorLog:
    """Errors, logged once by the watchdog: prometheus_client holds its lock where they occur."""

    def __init__(self) -> None:
        self._text = ""
        self._told = False
        WATCHDOG.add(self)

    def note(self, text: str) -> None:
        """Request logging of an error, unless one was logged already."""
        self._text = self._text or text

    def tick(self) -> None:
        """Log the noted error."""
        if self._text and not self._told:
            self._told = True
            log.warning("not all metrics of this process are shared: %s", self._text)


ERROR_LOG = _ErrorLog()


class ValueFile:
    """A replacement of `MmapedDict`, for one kind of metrics of one process. The caller holds a lock.

    Memory is allocated before it is mapped, first a page and then twice as much each time. A value without memory is
    kept by its metric alone, and written once there is room; so is each value in an unusable directory.
    """

    def __init__(self, filename: str) -> None:
        self._path = filename
        self._map: mmap.mmap | None = None
        self._positions: dict[str, int] = {}
        self._used = _HEAD
        self._again = 0.0

    def read_value(self, key: str) -> tuple[float, float]:
        """Return a value and its time, zeros for a new one."""
        position = self._positions.get(key) or self._add(key)
        value, timestamp = _PAIR.unpack_from(self._map, position) if self._map and position else (0.0, 0.0)
        return value, timestamp

    def write_value(self, key: str, value: float, timestamp: float) -> None:
        """Set a value and its time."""
        position = self._positions.get(key) or self._add(key)
        if self._map and position:
            self._map[position : position + _PAIR.size] = _PAIR.pack(value, timestamp)

    def close(self) -> None:
        """Unmap the file. In a forked child it belongs to the parent."""
        self._map = None
        self._positions = {}

    def _add(self, key: str) -> int | None:
        """Add an entry. Return the position of its value, None if there is no room."""
        now = monotonic()
        if now < self._again:
            return None
        try:
            self._map = self._map or self._open()
            if key in self._positions:  # a process with the same id used the file before
                return self._positions[key]
            encoded = key.encode()
            padded = encoded + b" " * (8 - (len(encoded) + _INT.size) % 8)
            entry = _INT.pack(len(encoded)) + padded + _PAIR.pack(0.0, 0.0)
            end = self._used + len(entry)
            if end > len(self._map):
                self._map = self._grown(end)
        except (OSError, ValueError) as error:
            self._again = now + _AGAIN
            ERROR_LOG.note(f"{self._path}: {error}")
            return None
        self._map[self._used : end] = entry
        self._map[: _INT.size] = _INT.pack(end)  # last: an entry within the used part is complete
        self._used = end
        position = self._positions[key] = end - _PAIR.size
        return position

    def _open(self) -> mmap.mmap:
        opened = _mapped(self._path, _PAGE)
        self._used, self._positions = _HEAD, {}
        with suppress(struct.error, UnicodeDecodeError):  # a damaged file is started anew
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
        grown[: self._used] = old[: self._used]  # the same bytes, unless the file was removed
        return grown


def _mapped(path: str, size: int) -> mmap.mmap:
    """Map a file, created if missing, with allocated memory for at least `size` bytes."""
    # By its path each time: a daemon may have closed a descriptor, and its number may belong to another file now.
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
    """Let prometheus_client use these files for metrics that are created from now on."""
    from prometheus_client import values  # not above: it decides at import whether there are several workers

    values.MmapedDict = ValueFile  # type: ignore[attr-defined, assignment]  # its one user asks for no more
