"""Connections to PostgreSQL that do not wait for an answer without end.

A server that is frozen, or a network that drops what is sent, keeps a connection open and says no more. `lock_timeout`
and `statement_timeout` are the server's to keep; here it is the client that gives up.
"""

from collections.abc import Callable, Generator
from typing import Any, ClassVar, TypeVar

from psycopg import Connection, OperationalError

from cb.clocks import monotonic

R = TypeVar("R")


class LimitedConnection(Connection[Any]):
    """A connection that is closed, with OperationalError, when an answer takes longer than `answer_seconds` returns."""

    answer_seconds: ClassVar[Callable[[], float]]

    def wait(self, gen: Generator[Any, Any, R], *args: Any, **options: Any) -> R:
        """Run one of psycopg's generators to its end."""
        result: R = super().wait(self._limited(gen), *args, **options)
        return result

    def _limited(self, gen: Generator[Any, Any, R]) -> Generator[Any, Any, R]:
        seconds = type(self).answer_seconds()
        end = monotonic() + seconds
        try:
            wanted = next(gen)
            while monotonic() < end:
                wanted = gen.send((yield wanted))  # psycopg resumes it at least ten times a second
        except StopIteration as ended:
            result: R = ended.value
            return result
        self.close()  # its answer may come later, and must not be taken for that of the next statement
        raise OperationalError(f"no answer within {seconds:.3g} s")
