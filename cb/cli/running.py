"""The ledgers that running processes have in use, wherever they lie."""

import os
from contextlib import suppress
from pathlib import Path

_PROCESSES = Path("/proc")


def in_use(suffix: str, processes: Path = _PROCESSES) -> set[Path]:
    """Return the files with that suffix that this user's processes have mapped; none where a system has no /proc."""
    found: set[Path] = set()
    for process in processes.glob("[0-9]*"):
        with suppress(OSError):  # it has ended, or is somebody else's
            if process.stat().st_uid == os.geteuid():
                names = (name for name in _mapped(process / "maps") if name.endswith(suffix))
                found.update(path for path in map(Path, names) if path.exists())
    return found


def _mapped(maps: Path) -> set[str]:
    r"""Return what is mapped: the sixth column, to the end of the line, with a newline in it written as \012."""
    rows = (line.split(None, 5) for line in maps.read_bytes().split(b"\n"))
    return {os.fsdecode(row[5].replace(b"\\012", b"\n")) for row in rows if len(row) == 6}
