"""The files that running processes have mapped, in any directory."""

import os
import stat
from collections import defaultdict
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

from cb.ledger.file import FILE_BYTES
from cb.ledger.layout import MAGIC, VERSION

_PROCESSES = Path("/proc")


def is_ledger(path: Path) -> bool:
    """Return True for a ledger of this version of the format, under any name."""
    with suppress(OSError):  # it was removed, or belongs to another user
        seen = path.lstat()
        if stat.S_ISREG(seen.st_mode) and seen.st_size == FILE_BYTES:
            with path.open("rb") as file:
                return memoryview(file.read(16)).cast("q").tolist() == [MAGIC, VERSION]
    return False


def mapped_files(suffix: str, processes: Path = _PROCESSES) -> set[Path]:
    """Return the ledgers that processes of this user have mapped; none on a system without /proc.

    A file with the suffix counts as one even if it is damaged.
    """
    found: set[Path] = set()
    for process in processes.glob("[0-9]*"):
        with suppress(OSError):  # the process has ended, or belongs to another user
            if process.stat().st_uid == os.geteuid():
                found.update(path for path in _ledgers(process / "maps", suffix) if path.exists())
    return found


def foreign_files(suffix: str, processes: Path = _PROCESSES) -> dict[Path, int]:
    """Return the ledgers that processes of other users have mapped, with the ids of their owners."""
    found: dict[Path, int] = {}
    for process in processes.glob("[0-9]*"):
        with suppress(OSError):
            if process.stat().st_uid != os.geteuid():
                for path in _ledgers(process / "maps", suffix):
                    if (owner := path.stat().st_uid) != os.geteuid():
                        found[path] = owner
    return found


def writers(paths: Collection[Path], processes: Path = _PROCESSES) -> dict[Path, list[int]]:
    """Return the ids of the processes that use each of the files: they have locked it, or mapped it for writing.

    The maps of a process that has changed its user are hidden from that user, and its locks are not.
    """
    wanted = {os.path.realpath(path): path for path in paths}
    found: dict[Path, set[int]] = {path: set() for path in paths}
    locks = _locks(processes / "locks") if wanted else {}
    for path in paths:
        with suppress(OSError):
            status = path.stat()
            found[path] |= locks.get((status.st_dev, status.st_ino), set())
    for process in processes.glob("[0-9]*") if wanted else ():
        with suppress(OSError):
            for name in _mapped(process / "maps", b"rw-s").intersection(wanted):
                found[wanted[name]].add(int(process.name))
    return {path: sorted(numbers) for path, numbers in found.items()}


def _ledgers(maps: Path, suffix: str) -> Iterator[Path]:
    for name in _mapped(maps):
        if name.endswith(suffix) or is_ledger(Path(name)):
            yield Path(name)


def _locks(file: Path) -> dict[tuple[int, int], set[int]]:
    """Return the processes that have locked files, by device and inode.

    A line of the file: `1: FLOCK  ADVISORY  READ 4711 00:1a:532 0 EOF`, the device in hexadecimal.
    """
    found: defaultdict[tuple[int, int], set[int]] = defaultdict(set)
    with suppress(OSError):
        for words in map(str.split, file.read_text().splitlines()):
            if len(words) > 5 and words[1] == "FLOCK":
                major, minor, inode = words[5].split(":")
                found[os.makedev(int(major, 16), int(minor, 16)), int(inode)].add(int(words[4]))
    return found


def _mapped(maps: Path, access: bytes = b"") -> set[str]:
    r"""Return the files mapped with that access: the sixth column, to the end of the line, a newline in it as \012."""
    rows = (line.split(None, 5) for line in maps.read_bytes().split(b"\n"))
    return {os.fsdecode(row[5].replace(b"\\012", b"\n")) for row in rows if len(row) == 6 and row[1].startswith(access)}
