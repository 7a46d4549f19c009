"""The body of a response, watched until it has been read or closed."""

from collections.abc import Callable, Iterator
from typing import Any

from .portable import PortableRequestError

#: is told once how the body ended: None if well
Settle = Callable[[BaseException | None], object]
_PIECE = 65_536


class BodyTooLarge(PortableRequestError):
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

    def __iter__(self) -> Iterator[bytes]:
        """Yield the lines of the body, as urllib3 does."""
        lines: Iterator[bytes] = type(self._raw).__iter__(self)  # it reads by `stream`, and here by the one below
        return lines

    def stream(self, amt: int | None = None, decode_content: bool | None = None) -> Iterator[bytes]:
        """Yield the body piece by piece. Raises BodyTooLarge, and what urllib3 raises."""
        try:
            # Never at once, whatever is asked: a piece would be as long as the dependency says.
            for piece in self._raw.stream(amt or _PIECE, decode_content):
                self._count(piece)
                yield piece
        except GeneratorExit:
            self._end(None)  # the reader has had enough
            raise
        except BaseException as error:
            self._break(error)
            raise
        self._end(None)

    def read(self, amt: int | None = None, decode_content: bool | None = None, cache_content: bool = False) -> bytes:
        """Return what is read, as urllib3 does. Raises BodyTooLarge, and what urllib3 raises."""
        try:
            amt = self._left + 1 if amt is None or amt < 0 else amt
            data: bytes = self._raw.read(amt, decode_content, cache_content)
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
