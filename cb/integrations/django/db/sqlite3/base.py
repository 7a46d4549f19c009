"""Wrapper of the backend."""

from django.db.backends.sqlite3 import base

from cb.integrations.django.db.guarded import GuardedConnection


class DatabaseWrapper(GuardedConnection, base.DatabaseWrapper):  # type: ignore[misc]  # Django has no types
    """SQLite behind a breaker. A file that cannot be opened is a failure; a lock of another writer is none."""
