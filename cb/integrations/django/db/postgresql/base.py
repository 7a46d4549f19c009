"""Wrapper of the backend."""

from typing import Any

from django.db.backends.postgresql import base

from cb.integrations.django.db.guarded import GuardedConnection


class DatabaseWrapper(GuardedConnection, base.DatabaseWrapper):  # type: ignore[misc]  # Django has no types
    """PostgreSQL behind a breaker, with psycopg or psycopg2, and with the pool of psycopg."""

    def _is_closed(self) -> bool:
        connection: Any = self.connection
        return bool(connection.closed)
