"""Ledgers of other users: whose they are, and the command that acts as their user."""

import os
import shlex
import stat
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from cb.errors import LedgerError
from cb.ledger.paths import shared_directory

from .ledgers import SUFFIX
from .running import foreign_files

#: directories in which sudo finds a program by its name
_SECURE_PATH = ("/bin", "/sbin", "/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin")


def require_own(path: str) -> None:
    """Raise LedgerError for a ledger of another user. Its files would get another owner, or none could be written."""
    owner = owner_of(path)
    if owner is not None:
        raise LedgerError(path, "only its owner may change it")


def owner_of(path: str) -> int | None:
    """Return the id of the user whose ledger it is, None if that is this user or is unknown."""
    if not hasattr(os, "geteuid"):
        return None
    file = Path(path).absolute()
    for each in (file, file.parent):  # a file in a private directory cannot be seen
        with suppress(OSError):
            found = each.lstat()
            if each == file or not found.st_mode & 0o022:  # a directory that others may write to tells nothing
                return None if found.st_uid == os.geteuid() else found.st_uid
    return None


def name_of(user: int) -> str:
    """Return the name of a user as `sudo -u` takes it."""
    try:
        import pwd  # not above: not on Windows

        return pwd.getpwuid(user).pw_name
    except (ImportError, KeyError):
        return f"#{user}"


def as_user(user: int, given: Sequence[str], environ: Mapping[str, str] = os.environ) -> str:
    """Return the shell command that runs `cb` with these arguments as another user."""
    state = environ.get("CB_STATE_DIR")
    program = Path(sys.argv[0]).absolute()
    if program.name != "cb" or str(program.parent) in _SECURE_PATH:
        program = Path("cb")
    setting = [f"CB_STATE_DIR={Path(state).absolute()}"] if state else []
    return shlex.join(["sudo", "-u", name_of(user), *setting, str(program), *given])


def others(environ: Mapping[str, str] = os.environ) -> dict[int, list[str]]:
    """Return the users with ledgers in shared memory, and the names of those that this user may list.

    Root also sees the ledgers that running processes have mapped elsewhere. With $CB_STATE_DIR set there are none.
    """
    if environ.get("CB_STATE_DIR") or not hasattr(os, "geteuid"):
        return {}
    files: defaultdict[int, set[Path]] = defaultdict(set)
    own = shared_directory()
    for directory in own.parent.glob("cb-*"):
        user = directory.name.removeprefix("cb-")
        with suppress(OSError):
            found = directory.lstat()
            if user == str(found.st_uid) and found.st_uid != os.geteuid() and stat.S_ISDIR(found.st_mode):
                listed = set(directory.glob(f"*{SUFFIX}"))
                if listed or not os.access(directory, os.R_OK):
                    files[found.st_uid] |= listed
    if os.geteuid() == 0:
        for path, user_id in foreign_files(SUFFIX).items():
            files[user_id].add(path)
    return {user_id: _names(paths) for user_id, paths in sorted(files.items())}


def hints(given: Sequence[str], environ: Mapping[str, str] = os.environ) -> list[str]:
    """Return a line for each other user with ledgers: whose they are, and the command that shows them."""
    return [
        f"{name_of(user)} has ledgers{f' ({names})' if (names := ', '.join(each)) else ''}: {as_user(user, given)}"
        for user, each in others(environ).items()
    ]


def _names(paths: Iterable[Path]) -> list[str]:
    return sorted({path.name.removesuffix(SUFFIX) for path in paths})
