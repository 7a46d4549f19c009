"""Wrapper of the backend."""

from django.db.backends.mysql import base

from cb.integrations.django.db.guarded import GuardedConnection

#: numbers of errors that mean that the connection is lost, as SQLAlchemy has them
_LOST = frozenset({1927, 2006, 2013, 2014, 2045, 2055, 4031})


class DatabaseWrapper(GuardedConnection, base.DatabaseWrapper):  # type: ignore[misc]  # Django has no types
    """MySQL and MariaDB behind a breaker."""

    def _is_lost(self, error: BaseException) -> bool:
        return bool(error.args) and error.args[0] in _LOST
