"""Connections to PostgreSQL with a timeout for responses.

A frozen server, or a network that drops packets, keeps a connection open without a response. `lock_timeout` and
`statement_timeout` are enforced by the server; this timeout is enforced by the client.
"""

from collections.abc import Callable, Generator
from typing import Any, ClassVar, TypeVar

from psycopg import Connection, OperationalError

from cb.clocks import monotonic

R = TypeVar("R")


class LimitedConnection(Connection[Any]):
    """A connection that is closed, with OperationalError, if a response takes longer than `answer_seconds()`."""

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
        self.close()  # a late response must not be taken for that of the next statement
        raise OperationalError(f"no answer within {seconds:.3g} s")
