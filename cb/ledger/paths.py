"""Where the file of a ledger lies."""

import os
from collections.abc import Mapping
from pathlib import Path

from cb.errors import ConfigError

from .layout import VERSION

#: how the URLs of servers begin that all hosts may share; what redis-py does not know of them, `cb.fleet` does
SHARED = ("redis", "rediss", "unix", "redis+sentinel", "redis+cluster", "rediss+cluster")


def path_of(url: str, directory: str | os.PathLike[str] | None = None) -> Path:
    """Return the file that `file:///PATH` or `shm://NAME` means, the latter in `directory`. Raises ConfigError.

    Without a directory it is the `state_directory`, where the command looks and services have theirs.
    """
    scheme, separator, place = url.partition("://")
    if not separator or not place or scheme not in ("file", "shm") or (scheme == "shm" and "/" in place):
        raise ConfigError("url", "be memory://, file:///PATH or shm://NAME", url)
    if scheme == "file":
        return Path(place)
    # The version is in the name: during a rolling upgrade both formats are in use.
    return Path(directory or state_directory(os.environ)) / f"{place}.v{VERSION}.ledger"


def state_directory(environ: Mapping[str, str]) -> Path:
    """Return where services have their ledgers: $CB_STATE_DIR, systemd's directory, else `shared_directory`."""
    systemd = environ.get("RUNTIME_DIRECTORY", "").split(":")[0]
    return Path(environ.get("CB_STATE_DIR") or systemd or shared_directory()).absolute()


def shared_directory() -> Path:
    """Return this user's directory for ledgers: in shared memory where the system has it."""
    user = os.getuid() if hasattr(os, "getuid") else 0
    memory = Path("/dev/shm")  # noqa: S108 - a directory of this user, mode 0700, is made in it
    if memory.is_dir():
        return memory / f"cb-{user}"
    import tempfile

    return Path(tempfile.gettempdir()) / f"cb-{user}"
