"""API keys of users. `python -m servicekit.api_keys USER` creates one."""

import secrets
import sys

from flask import current_app, g

from cb.integrations.flask.current import bearer_token
from cb.integrations.operations.access import unauthorized

from .ids import ID, ID_RULE
from .rate_limit import count_request
from .settings import Settings
from .tokens import hash_key


def has_keys() -> bool:
    """Return True if users need keys."""
    return bool(_settings().api_keys)


def require_user() -> str:
    """Return the user whose key the current request has. Raises Problem (401)."""
    # Looked up by its hash: timing can reveal something about a hash, but nothing about the key.
    user = _settings().api_keys.get(hash_key(bearer_token() or ""))
    if user is None:
        raise unauthorized("this needs the key of a user")
    count_request(f"user {user}")
    g.user = user
    return user


def is_own(user_id: str) -> bool:
    """Return True if the current request may access a user's data: it has that user's key, or users need none."""
    return not has_keys() or g.get("user") == user_id


def _settings() -> Settings:
    settings: Settings = current_app.extensions["settings"]
    return settings


def main(arguments: list[str]) -> int:
    """Print a new key for a user, and its entry in the settings."""
    if len(arguments) != 1 or not ID.fullmatch(arguments[0]):
        sys.stderr.write(f"usage: python -m servicekit.api_keys USER   (a user's id {ID_RULE})\n")
        return 2
    key = secrets.token_urlsafe(32)
    sys.stdout.write(
        f"for {arguments[0]} alone: {key}\n\nfor the settings:\napi_keys:\n  {arguments[0]}: {hash_key(key)}\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
