"""The ledger files that running processes have mapped, in any directory."""

import os
from contextlib import suppress
from pathlib import Path

_PROCESSES = Path("/proc")


def mapped_files(suffix: str, processes: Path = _PROCESSES) -> set[Path]:
    """Return the files with that suffix that processes of this user have mapped; none on a system without /proc."""
    found: set[Path] = set()
    for process in processes.glob("[0-9]*"):
        with suppress(OSError):  # the process has ended, or belongs to another user
            if process.stat().st_uid == os.geteuid():
                names = (name for name in _mapped(process / "maps") if name.endswith(suffix))
                found.update(path for path in map(Path, names) if path.exists())
    return found


def _mapped(maps: Path) -> set[str]:
    r"""Return the mapped files: the sixth column, to the end of the line, with a newline in it written as \012."""
    rows = (line.split(None, 5) for line in maps.read_bytes().split(b"\n"))
    return {os.fsdecode(row[5].replace(b"\\012", b"\n")) for row in rows if len(row) == 6}
