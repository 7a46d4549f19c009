"""The last failure of all processes, in the head of a record.

Any call writes it, without a lock: all cells in one copy, with their checksum. A reader that meets two writers, or a
writer that was stopped in the middle of the copy, finds another checksum and reports no failure.
"""

import struct
import sys
from binascii import crc32
from typing import NamedTuple

from cb.failures import LastFailure

from . import layout as at

_CELLS = struct.Struct(f"=qqq{at.FAILED_TYPE_CELLS * 8}s{at.FAILED_WORKER_CELLS * 8}s{at.FAILED_MESSAGE_CELLS * 8}s")
_CHECK = struct.Struct("=q")
_END = at.FAILED_MESSAGE + at.FAILED_MESSAGE_CELLS


class Worker(NamedTuple):
    """The process that had a failure."""

    #: process number, whose low 32 bits are the process id; 0 if unknown
    number: int
    #: name of the process, empty without one
    name: str = ""

    def __str__(self) -> str:
        """Return the process id, after the name if there is one."""
        pid = str(self.number & 0xFFFF_FFFF) if self.number else ""
        return f"{self.name} ({pid})" if self.name else pid


def write_last_failure(
    head: memoryview, now: int, worker: Worker, kind: str, *, status: int | None = None, message: str = ""
) -> None:
    """Store a failure, unless a later one is stored already."""
    if now < head[at.FAILED_AT] <= now + head[at.SLICE]:
        return
    body = _CELLS.pack(
        now,
        worker.number,
        status or 0,
        kind.encode(errors="replace"),  # cut to its cells by `pack`
        worker.name.encode(errors="replace"),
        message.encode(errors="replace"),
    )
    head[at.FAILED_CHECK : _END] = memoryview(_CHECK.pack(crc32(body)) + body).cast("q")


def read_last_failure(head: memoryview, now: int) -> tuple[int, LastFailure] | None:
    """Return time and description of the last failure; None without one. A time in the future is of another clock."""
    if not 0 < head[at.FAILED_AT] <= now + head[at.SLICE]:
        return None
    cells = head[at.FAILED_CHECK : _END].tobytes()
    check, body = cells[:8], cells[8:]
    if int.from_bytes(check, sys.byteorder) != crc32(body):
        return None
    when, number, status, kind, name, message = _CELLS.unpack(body)
    worker = Worker(number, _read(name))
    return when, LastFailure(max(now - when, 0) / 1e9, _read(kind), status or None, _read(message), str(worker))


def this_worker(number: int) -> Worker:
    """Return the running process, with the name that multiprocessing or billiard (Celery) gave it."""
    return Worker(number, _name())


def _name() -> str:
    for module in ("billiard.process", "multiprocessing.process"):
        if found := sys.modules.get(module):
            name = str(found.current_process().name)
            if name != "MainProcess" and name.isprintable():
                return name
    return ""


def _read(data: bytes) -> str:
    return data.rstrip(b"\0").decode(errors="ignore")  # the last character may be cut
