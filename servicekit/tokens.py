"""Tokens of operators and services, from the environment or private files, and hashes of users' API keys.

The settings hold SHA-256 hashes, which cannot be used as keys. A key is random and long, so that a slow hash is not
needed.
"""

import hashlib
import re
from collections.abc import Mapping

from cb.errors import ConfigError
from cb.integrations.operations import tokens

from .ids import ID, ID_RULE
from .settings_file import SettingsError, Source

_PREFIX = "sha256:"
_HASH = re.compile(rf"{_PREFIX}[0-9a-f]{{64}}", re.ASCII)
_HASH_RULE = f"be {_PREFIX} and 64 hexadecimal digits, or a list of such (python -m servicekit.api_keys USER makes one)"


def read_token(name: str, environ: Mapping[str, str]) -> str | None:
    """Return the token in the variable NAME, or in the file that NAME_FILE names. Raises SettingsError."""
    try:
        return tokens.read_token(name, environ)
    except ConfigError as error:
        raise SettingsError(error.field, "", error.rule, error.value) from error


def check_private(file: str, reason: str) -> None:
    """Check that only a file's user and group can read or write it. Raises SettingsError, OSError."""
    try:
        tokens.check_private(file, reason)
    except ConfigError as error:
        raise SettingsError(error.field, "", error.rule, error.value) from error


def hash_key(key: str) -> str:
    """Return the hash of a key, as the settings have it."""
    return _PREFIX + hashlib.sha256(key.encode()).hexdigest()


def read_api_keys(source: Source) -> dict[str, str]:
    """Return the users of the section `api_keys`, by the hashes of their keys. Raises SettingsError."""
    found: dict[str, str] = {}
    for user, listed in source.section("api_keys").items():
        if not ID.fullmatch(user):
            raise source.error(("api_keys", user), f"be the id of a user, which {ID_RULE}", user)
        for each in listed if isinstance(listed, list) and listed else [listed]:
            if not isinstance(each, str) or not _HASH.fullmatch(each):
                raise source.error(("api_keys", user), _HASH_RULE, "something else")  # it may be a key
            if found.setdefault(each, user) != user:
                raise source.error(("api_keys", user), f"not be that of {found[each]} too", "the same hash")
    return found
