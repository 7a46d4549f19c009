"""A breaker before the connections of a database of Django.

Connecting is a call, and so is each statement, commit and rollback on a connection. A statement that hangs is a call in
flight. docs/integrations/django.md lists the outcomes.
"""

import sys
from collections.abc import Callable
from typing import Any, TypeVar

from django.core.exceptions import ImproperlyConfigured
from django.core.management import get_commands
from django.db.backends.base.base import NO_DB_ALIAS
from django.utils.asyncio import async_unsafe

from cb.breaker import CircuitBreaker
from cb.call import Call
from cb.errors import ConfigError, RejectedError
from cb.integrations.django.current import breakers
from cb.state.outcome import is_interruption

R = TypeVar("R")

#: key of a database's OPTIONS
OPTION = "breaker"
#: commands of Django that serve requests or run code of the project
_SERVING = frozenset({"runserver", "testserver", "shell"})


class GuardedConnection:
    """Mixin of database wrappers: a breaker before connecting, statements and transactions.

    A transaction that has begun is not interrupted: its statements run also while the circuit is open. Commands of
    Django itself, such as `migrate` and `dbshell`, are not guarded.
    """

    alias: str
    autocommit: bool
    connection: Any
    execute_wrappers: list[Any]
    in_atomic_block: bool
    settings_dict: dict[str, Any]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._connecting = False
        self._guards = self.alias != NO_DB_ALIAS and not _runs_command_of_django()
        self.execute_wrappers.append(self._execute)

    def get_connection_params(self) -> dict[str, Any]:
        """Return the parameters of the driver."""
        params: dict[str, Any] = super().get_connection_params()  # type: ignore[misc]  # of the class beside this one
        params.pop(OPTION, None)
        return params

    @async_unsafe  # type: ignore[untyped-decorator]  # Django has no types
    def connect(self) -> None:
        """Connect to the database. Raises RejectedError."""
        call = self._breaker().begin() if self._guards else None
        self._connecting = True
        try:
            super().connect()  # type: ignore[misc]  # of the class beside this one
        except ImproperlyConfigured:
            if call:
                call.discard()
            raise
        except BaseException as error:
            if call:
                call.fail(error)
            raise
        finally:
            self._connecting = False
        if call:
            call.succeed()

    def set_autocommit(self, autocommit: bool, *args: Any, **kwargs: Any) -> None:
        """Begin a transaction, or end it. Raises RejectedError where a transaction begins."""
        if self._guards and not autocommit and self.connection is not None and not self._connecting:
            self._breaker().begin().cancel()
        super().set_autocommit(autocommit, *args, **kwargs)  # type: ignore[misc]  # of the class beside this one

    def _commit(self) -> Any:
        return self._run(super()._commit)  # type: ignore[misc]  # of the class beside this one

    def _rollback(self) -> Any:
        return self._run(super()._rollback)  # type: ignore[misc]  # of the class beside this one

    def _execute(self, execute: Callable[..., R], *args: Any) -> R:
        return self._run(execute, *args)

    def _run(self, work: Callable[..., R], *args: Any) -> R:
        """Run work that needs the connection."""
        call = self._begin()
        if call is None:
            return work(*args)
        try:
            result = work(*args)
        except BaseException as error:
            if is_interruption(error) or self._is_lost(error):
                call.fail(error)
            else:
                call.succeed()  # the server responds
            raise
        call.succeed()
        return result

    def _begin(self) -> Call | None:
        """Admit a call; None where none is counted, and in a transaction that a rejection would interrupt."""
        # The loss of a connection is counted once.
        if not self._guards or self._connecting or self.connection is None or self._is_closed():
            return None
        try:
            return self._breaker().begin()
        except RejectedError:
            if self.in_atomic_block or not self.autocommit:
                return None
            raise

    def _breaker(self) -> CircuitBreaker:
        name = self.settings_dict["OPTIONS"].get(OPTION, f"database-{self.alias}")
        if not isinstance(name, str) or not name:
            raise ConfigError(f"DATABASES.{self.alias}.OPTIONS.{OPTION}", "be the name of a breaker", name)
        return breakers.get(name)

    def _is_closed(self) -> bool:
        """Return True if the driver knows that the connection is closed."""
        return False

    def _is_lost(self, error: BaseException) -> bool:  # noqa: ARG002 - other backends need it
        """Return True if an error means that the connection is lost."""
        return self.connection is not None and self._is_closed()


def _runs_command_of_django() -> bool:
    command = sys.argv[1] if len(sys.argv) > 1 else ""
    program = sys.argv[0].replace("\\", "/").rpartition("/")[2] if sys.argv else ""
    if program not in {"manage.py", "django-admin", "django-admin.py", "__main__.py"} or command in _SERVING:
        return False
    return bool(get_commands().get(command) == "django.core" and command != "test")
