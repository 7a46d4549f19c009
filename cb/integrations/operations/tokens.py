"""Tokens from arguments, the environment or private files."""

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path

from cb.errors import ConfigError

_RULE = "be 16 to 200 letters, digits and signs without spaces"
_TOKEN = re.compile(r"[!-~]{16,200}", re.ASCII)


def read_token(name: str, environ: Mapping[str, str]) -> str | None:
    """Return the token in the variable NAME, or in the file that NAME_FILE names; None without either.

    Raises ConfigError for a weak token, an unreadable or exposed file, and for both variables at once.
    """
    origin, token = f"environment variable {name}", environ.get(name)
    if file := environ.get(f"{name}_FILE"):
        if token is not None:
            raise ConfigError(origin, f"be absent beside {name}_FILE", "both")
        origin = f"environment variable {name}_FILE"
        token = _read(origin, file)
    return None if token is None else check_token(origin, token)


def check_token(field: str, token: object) -> str:
    """Return a token that is long enough and printable. Raises ConfigError, which does not repeat it."""
    if not isinstance(token, str):
        raise ConfigError(field, f"be a string, and {_RULE}", type(token).__name__)
    if not _TOKEN.fullmatch(token):
        raise ConfigError(field, _RULE, f"{len(token)} characters")
    return token


def check_private(file: str, reason: str) -> None:
    """Check that only a file's user and group can read or write it. Raises ConfigError, OSError."""
    mode = Path(file).stat().st_mode
    if mode & 0o007 and hasattr(os, "geteuid"):  # elsewhere the bits mean nothing
        raise ConfigError(file, f"be out of others' reach (chmod o= {file}): {reason}", stat.filemode(mode))


def _read(origin: str, file: str) -> str:
    try:
        check_private(file, "it holds a token")
        return Path(file).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(origin, "name a readable file of text", file) from error
