"""The body of a response, watched until it has been read or closed."""

import threading
from collections.abc import Callable, Generator
from functools import lru_cache
from http.client import HTTPException
from typing import Any, Protocol

from urllib3 import HTTPResponse
from urllib3.exceptions import HTTPError, ResponseNotChunked

from .pickling import PortableRequestError

#: bytes that are read at once of a body that is wanted whole
_PIECE = 65_536
#: what a dependency does; anything else that a read raises is a mistake of who reads
_BROKEN = (HTTPError, HTTPException, OSError)


class BodyTooLargeError(PortableRequestError):
    """An answer that has more bytes than anybody wants."""


class Reader(Protocol):
    """A call whose answer is being read."""

    def end(self, error: BaseException | None) -> object:
        """Note how the body ended: None if well. Called once."""

    def pause(self) -> object:
        """Note that the caller does something else than to wait for the body."""

    def resume(self) -> object:
        """Note that the caller waits for the body again."""


def watch(raw: Any, largest: int, reader: Reader) -> None:
    """Tell a reader how the body of a response's `raw` ends, whichever way it is read, and after `largest` bytes.

    It stays the object that it is, of a subclass of what it was. One that is not of urllib3, as recorders and test
    doubles have it, or has no body, has ended well.
    """
    kind = type(raw)  # a mock says that it is of another
    if not issubclass(kind, HTTPResponse) or raw._fp is None:  # noqa: SLF001 - it has nothing to read from
        reader.end(None)
        return
    reading = _Reading(reader, largest)
    raw.__class__ = _watched(kind)
    raw._reading = reading  # noqa: SLF001 - of the class that it has now
    if raw.length_remaining == 0 or raw.isclosed():
        reading.end(None)
    else:
        reading.rest()


class _Reading:
    """The progress of reading a body."""

    __slots__ = ("busy", "decodes", "left", "paused", "reader")

    def __init__(self, reader: Reader, largest: int) -> None:
        #: None once it has been told how the body ended
        self.reader: Reader | None = reader
        #: bytes that may still come
        self.left = largest
        #: the thread that reads at the moment
        self.busy: int | None = None
        #: whether what has been read was decoded
        self.decodes = False
        self.paused = False

    def begin(self) -> None:
        """Begin a read."""
        self.busy = threading.get_ident()
        if self.reader and self.paused:
            self.paused = False
            self.reader.resume()

    def rest(self) -> None:
        """End a read that more will follow."""
        self.busy = None
        if self.reader and not self.paused:
            self.paused = True
            self.reader.pause()

    def end(self, error: BaseException | None) -> None:
        """Tell how the body ended, for the first time or again."""
        self.busy = None
        reader, self.reader = self.reader, None
        if reader:
            if self.paused:
                reader.resume()
            reader.end(error)

    def leave(self) -> None:
        """Note that its reader wants no more: what has been seen of the answer was well."""
        if self.busy != threading.get_ident():  # else urllib3 closes or releases it, in the middle of a read
            self.end(None)

    def count(self, piece: bytes) -> None:
        """Count what has been read. Raises BodyTooLargeError."""
        self.left -= len(piece)
        if self.left < 0:
            raise BodyTooLargeError("the body is too large")


class _Watched(HTTPResponse):
    """A response of urllib3 whose reads are seen: all of them come through `read`, `read1` and `read_chunked`."""

    _reading: _Reading

    def read(self, amt: int | None = None, decode_content: bool | None = None, cache_content: bool = False) -> bytes:
        """Return what is read, as urllib3 does. Raises BodyTooLargeError, and what urllib3 raises."""
        if amt is not None and amt >= 0:
            return self._seen(super().read, amt, decode_content)
        fresh, pieces = not self.tell(), []
        # Never at once: a piece would be as long as the dependency says.
        while piece := self._seen(super().read, _PIECE, decode_content):
            pieces.append(piece)
        data = b"".join(pieces)
        if cache_content and fresh:
            self._body = data  # as urllib3 does
        return data

    def read1(self, amt: int | None = None, decode_content: bool | None = None) -> bytes:
        """Return what there is already, as urllib3 does. Raises BodyTooLargeError, and what urllib3 raises."""
        return self._seen(super().read1, _PIECE if amt is None or amt < 0 else amt, decode_content)

    def _seen(self, read: Callable[..., bytes], amt: int, decode_content: bool | None) -> bytes:
        reading = self._reading
        decodes = self.decode_content if decode_content is None else decode_content
        reading.begin()
        try:
            data = read(amt, decode_content)
            reading.decodes = decodes
            reading.count(data)
        except BaseException as error:
            self._failed(error)
            raise
        # A decoder may have more to say when all has been received, until it says less than it was asked for.
        whole = not decodes or len(data) < amt or "content-encoding" not in self.headers
        if amt and (not data or (whole and self.isclosed())):
            reading.end(None)
        else:
            reading.rest()
        return data

    def read_chunked(self, amt: int | None = None, decode_content: bool | None = None) -> Generator[bytes]:
        """Yield the body chunk by chunk. Raises BodyTooLargeError, and what urllib3 raises."""
        reading = self._reading
        if amt == 0:
            return
        # A chunk is as long as the dependency says.
        amt = max(reading.left, 0) + 1 if amt is None or amt < 0 else amt
        pieces = super().read_chunked(amt, decode_content)
        while True:
            reading.begin()
            try:
                piece = next(pieces, b"")
                reading.count(piece)
            except BaseException as error:
                self._failed(error)
                raise
            if not piece:
                reading.end(None)
                return
            reading.rest()
            try:
                yield piece
            except GeneratorExit:
                pieces.close()
                reading.end(None)
                raise

    def stream(self, amt: int | None = _PIECE, decode_content: bool | None = None) -> Generator[bytes]:
        """Yield the body piece by piece. Raises BodyTooLargeError, and what urllib3 raises."""
        try:
            yield from super().stream(amt, decode_content)
        except GeneratorExit:  # the reader has had enough
            self._reading.end(None)
            raise
        if amt != 0:
            self._reading.end(None)

    def drain_conn(self) -> None:
        """Read what is left and forget it, as far as it may be read. Raises nothing."""
        try:
            while self._seen(super().read, _PIECE, self._reading.decodes):
                pass
        except _BROKEN:
            pass

    def close(self) -> None:
        """Close the connection."""
        if not getattr(self, "_finalizing", False):  # else nobody has closed it: it is dropped, unread
            self._reading.leave()
        super().close()

    def release_conn(self) -> None:
        """Give the connection back to the pool."""
        super().release_conn()
        self._reading.leave()

    def shutdown(self) -> None:
        """Have a read in another thread end."""
        self._reading.leave()
        super().shutdown()

    def _failed(self, error: BaseException) -> None:
        if isinstance(error, ResponseNotChunked) or (isinstance(error, Exception) and not isinstance(error, _BROKEN)):
            self._reading.rest()
            return
        super().close()  # what has not been read would be taken for the next answer
        self._reading.end(error)


@lru_cache(maxsize=64)
def _watched(response: type[HTTPResponse]) -> Any:
    if response is HTTPResponse:
        return _Watched
    return response if issubclass(response, _Watched) else type(response.__name__, (_Watched, response), {})
