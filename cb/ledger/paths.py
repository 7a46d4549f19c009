"""Paths of ledger files."""

import os
from collections.abc import Mapping
from pathlib import Path

from cb.errors import ConfigError

from .layout import VERSION

#: URL schemes of servers that all hosts may share; `cb.fleet` handles those that redis-py does not
SHARED = ("redis", "rediss", "unix", "redis+sentinel", "redis+cluster", "rediss+cluster")


def ledger_path(url: str, directory: str | os.PathLike[str] | None = None) -> Path:
    """Return the file of `file:///PATH` or `shm://NAME`, the latter in `directory`. Raises ConfigError.

    The default directory is `state_directory`, as for services and the command `cb`.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or not rest or scheme not in ("file", "shm") or (scheme == "shm" and "/" in rest):
        raise ConfigError("url", "be memory://, file:///PATH or shm://NAME", url)
    if scheme == "file":
        return Path(rest)
    # The version is in the name: during a rolling upgrade both formats are in use.
    return Path(directory or state_directory(os.environ)) / f"{rest}.v{VERSION}.ledger"


def environment_url() -> str | None:
    """Return the URL of the default ledger from $CB_LEDGER, None if it is unset or empty."""
    return os.environ.get("CB_LEDGER") or None


def state_directory(environ: Mapping[str, str]) -> Path:
    """Return the directory of ledgers: $CB_STATE_DIR, systemd's $RUNTIME_DIRECTORY, else `shared_directory`."""
    systemd = environ.get("RUNTIME_DIRECTORY", "").split(":")[0]
    return Path(environ.get("CB_STATE_DIR") or systemd or shared_directory()).absolute()


def shared_directory() -> Path:
    """Return this user's directory for ledgers: in shared memory if the system has it."""
    user = os.getuid() if hasattr(os, "getuid") else 0
    memory = Path("/dev/shm")  # noqa: S108 - a directory of this user, mode 0700, is made in it
    if memory.is_dir():
        return memory / f"cb-{user}"
    import tempfile

    return Path(tempfile.gettempdir()) / f"cb-{user}"
