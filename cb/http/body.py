"""The body of a response, watched until it has been read or closed."""

from collections.abc import Callable, Iterator
from typing import Any

import requests

#: is told once how the body ended: None if well
Settle = Callable[[BaseException | None], object]


class BodyTooLarge(requests.exceptions.RequestException):
    """An answer that has more bytes than anybody wants."""


class Body:
    """Stands for the `raw` of a response of requests: what it does not say itself, that says."""

    def __init__(self, raw: Any, largest: int, settle: Settle) -> None:
        self._raw = raw
        self._left = largest
        self._settle: Settle | None = settle
        if raw.length_remaining == 0:
            self._end(None)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)

    def stream(self, *args: Any, **kwargs: Any) -> Iterator[bytes]:
        """Yield the body piece by piece. Raises BodyTooLarge, and what urllib3 raises."""
        try:
            for piece in self._raw.stream(*args, **kwargs):
                self._count(piece)
                yield piece
        except GeneratorExit:
            self._end(None)  # the reader has had enough
            raise
        except BaseException as error:
            self._break(error)
            raise
        self._end(None)

    def read(self, *args: Any, **kwargs: Any) -> bytes:
        """Return what is read, as urllib3 does. Raises BodyTooLarge, and what urllib3 raises."""
        try:
            data: bytes = self._raw.read(*args, **kwargs)
            self._count(data)
        except BaseException as error:
            self._break(error)
            raise
        if self._raw.closed or not data:
            self._end(None)
        return data

    def close(self) -> None:
        """Close the connection. What has been seen of the answer was well."""
        self._raw.close()
        self._end(None)

    def release_conn(self) -> None:
        """Give the connection back to the pool."""
        self._raw.release_conn()
        self._end(None)

    def _count(self, piece: bytes) -> None:
        self._left -= len(piece)
        if self._left < 0:
            raise BodyTooLarge("the body is too large")

    def _break(self, error: BaseException) -> None:
        self._raw.close()  # what has not been read would be taken for the next answer
        self._end(error)

    def _end(self, error: BaseException | None) -> None:
        settle, self._settle = self._settle, None
        if settle:
            settle(error)
