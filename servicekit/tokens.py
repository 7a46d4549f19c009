"""What operators, services and users show: tokens from the environment or private files, and hashes of users' keys.

The settings hold what SHA-256 makes of a key: who reads them can do nothing with that. A key is random and long, so
nothing slower is needed.
"""

import hashlib
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path

from cb.errors import ConfigError

from .ids import ID, ID_RULE
from .settings_file import SettingsError, Source

_RULE = "be 16 to 200 letters, digits and signs without spaces"
_TOKEN = re.compile(r"[!-~]{16,200}", re.ASCII)
_PREFIX = "sha256:"
_HASH = re.compile(rf"{_PREFIX}[0-9a-f]{{64}}", re.ASCII)
_HASH_RULE = f"be {_PREFIX} and 64 hexadecimal digits, or a list of such (python -m servicekit.api_keys USER makes one)"


def read_token(name: str, environ: Mapping[str, str]) -> str | None:
    """Return the token of a variable, or in the file that the variable NAME_FILE names. Raises SettingsError."""
    origin, token = f"environment variable {name}", environ.get(name)
    if file := environ.get(f"{name}_FILE"):
        if token is not None:
            raise SettingsError(origin, "", f"be absent beside {name}_FILE", "both")
        origin, token = f"environment variable {name}_FILE", _read(name, file)
    try:
        return None if token is None else checked_token(name, token)
    except ConfigError as error:
        raise SettingsError(origin, "", error.rule, error.value) from error


def checked_token(field: str, token: object) -> str:
    """Return a token, wherever it comes from, if it is hard to guess. Raises ConfigError, which does not show it."""
    if not isinstance(token, str):
        raise ConfigError(field, f"be a string, and {_RULE}", type(token).__name__)
    if not _TOKEN.fullmatch(token):
        raise ConfigError(field, _RULE, f"{len(token)} characters")
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


def hash_key(key: str) -> str:
    """Return what the settings hold of a key."""
    return _PREFIX + hashlib.sha256(key.encode()).hexdigest()


def read_keys(source: Source) -> dict[str, str]:
    """Return the users of the section `api_keys`, by the hashes of their keys. Raises SettingsError."""
    found: dict[str, str] = {}
    for user, listed in source.section("api_keys").items():
        if not ID.fullmatch(user):
            raise source.error(("api_keys", user), f"be the id of a user, which {ID_RULE}", user)
        for each in listed if isinstance(listed, list) and listed else [listed]:
            if not isinstance(each, str) or not _HASH.fullmatch(each):
                raise source.error(("api_keys", user), _HASH_RULE, "something else")  # it may be a key: not to be shown
            if found.setdefault(each, user) != user:
                raise source.error(("api_keys", user), f"not be that of {found[each]} too", "the same hash")
    return found
