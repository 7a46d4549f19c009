"""The tokens that operators and services show: from the environment, or from private files that it names."""

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path

from .sources import SettingsError

_RULE = "be 16 to 200 letters, digits and signs without spaces"


def read_token(name: str, environ: Mapping[str, str]) -> str | None:
    """Return the token of a variable, or in the file that the variable NAME_FILE names. Raises SettingsError."""
    origin, token = f"environment variable {name}", environ.get(name)
    if file := environ.get(f"{name}_FILE"):
        if token is not None:
            raise SettingsError(origin, "", f"be absent beside {name}_FILE", "both")
        origin, token = f"environment variable {name}_FILE", _read(name, file)
    if token is not None and not re.fullmatch(r"[!-~]{16,200}", token, re.ASCII):
        raise SettingsError(origin, "", _RULE, f"{len(token)} characters")
    return token


def check_private(file: str, why: str) -> None:
    """Check that nobody but a file's user and group can read or write it. Raises SettingsError, OSError."""
    mode = Path(file).stat().st_mode
    if mode & 0o007 and hasattr(os, "geteuid"):  # elsewhere the bits say nothing
        raise SettingsError(file, "", f"be out of others' reach (chmod o= {file}): {why}", stat.filemode(mode))


def _read(name: str, file: str) -> str:
    try:
        check_private(file, "it holds a token")
        return Path(file).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"environment variable {name}_FILE", "", "name a readable file of text", file) from error
