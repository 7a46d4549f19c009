"""The keys of users: a request that shows one is that user's. `python -m servicekit.api_keys USER` makes one."""

import secrets
import sys

from flask import current_app, g

from cb.integrations.flask.access import bearer_token, unauthorized

from .ids import ID, ID_RULE
from .rate_limit import count
from .settings import Settings
from .tokens import hash_key


def has_keys() -> bool:
    """Return whether users have keys."""
    return bool(_settings().api_keys)


def require_user() -> str:
    """Return whose key the running request shows. Raises Problem."""
    # Found by its hash: how long that takes may tell something of a hash, and nobody finds the key from it.
    user = _settings().api_keys.get(hash_key(bearer_token() or ""))
    if user is None:
        raise unauthorized("this needs the key of a user")
    count(f"user {user}")
    g.user = user
    return user


def is_own(user_id: str) -> bool:
    """Return whether the running request may be about a user: it is that user's, or users have no keys."""
    return not has_keys() or g.get("user") == user_id


def _settings() -> Settings:
    settings: Settings = current_app.extensions["settings"]
    return settings


def main(arguments: list[str]) -> int:
    """Print a new key for a user, and what the settings must hold of it."""
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
