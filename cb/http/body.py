"""The body of a response, observed until it has been read or closed."""

import threading
from collections.abc import Callable, Generator
from contextlib import suppress
from functools import lru_cache
from http.client import HTTPException
from typing import Any, Protocol

import requests
from urllib3 import HTTPResponse
from urllib3.exceptions import HTTPError, ResponseNotChunked

from cb.state.outcome import is_interruption

from .described import described
from .errors import BodyTooLargeError
from .messages import Sent, target
from .older_urllib3 import BoundedResponse, bound_reads
from .pickling import PortableRequestError
from .texts import too_large_text

#: bytes per read of a body that is read as a whole
_CHUNK_BYTES = 65_536
#: bytes that are read at once of a chunk, for any length that the dependency announces
_LARGEST_CHUNK = 1 << 20
#: errors of the dependency; any other error of a read is the caller's
_DEPENDENCY_ERRORS = (HTTPError, HTTPException, OSError)


class BodyTooLargeRequestError(BodyTooLargeError, PortableRequestError):
    """The error of a request of requests whose response is longer than `max_body_bytes`."""


def too_large(raw: Any, limit: int, request: requests.PreparedRequest) -> BodyTooLargeError:
    """Return the error for a body of `Response.raw` that is longer than the limit."""
    size, encoded = None, "content-encoding" in raw.headers
    with suppress(KeyError, ValueError):
        announced = int(raw.headers["content-length"])
        size = announced if announced > limit and not encoded else None
    reason = too_large_text(limit, size, encoded=encoded)
    return BodyTooLargeRequestError(reason, target=target(request), limit=limit, size=size, request=request)


class BodyObserver(Protocol):
    """An observer of the body of a response."""

    def end(self, error: BaseException | None) -> object:
        """Record the end of the body: its error, or None for success. Called once."""

    def pause(self) -> object:
        """Record that the caller does not wait for the body."""

    def resume(self) -> object:
        """Record that the caller waits for the body again."""


class _Unobserved:
    """An observer for bodies that count nowhere."""

    __slots__ = ()

    def end(self, error: BaseException | None) -> None: ...

    def pause(self) -> None: ...

    def resume(self) -> None: ...


#: observes nothing: reads are limited, and their errors name the host
UNOBSERVED_BODY: BodyObserver = _Unobserved()


def body_of(response: requests.Response) -> Any:
    """Return the `raw` of a response; None if its content has been supplied, as by recorders and test doubles."""
    return response.raw if getattr(response, "_content", False) is False else None


def observe_body(raw: Any, max_bytes: int | None, observer: BodyObserver, sent: Sent) -> None:
    """Observe the body of `Response.raw`, whichever method reads it, and limit it to `max_bytes`, if that is not None.

    The object keeps its identity; its class becomes a subclass of its own class. A response without a body, or one that
    is not urllib3's, such as those of recorders and test doubles, ends at once, successfully.
    """
    cls = type(raw)  # not `raw.__class__`: a mock reports another
    if not issubclass(cls, HTTPResponse) or raw._fp is None:  # noqa: SLF001 - without it, there is nothing to read
        observer.end(None)
        return
    progress = _Progress(observer, max_bytes, sent)
    raw.__class__ = _observed(cls)
    bound_reads(raw)
    raw._progress = progress  # noqa: SLF001 - an attribute of its new class
    if raw.length_remaining == 0 or raw.isclosed():
        progress.end(None)
    else:
        progress.pause()


class _Progress:
    """The progress of reading a body."""

    __slots__ = ("decodes", "left", "limit", "observer", "paused", "reader", "sent")

    def __init__(self, observer: BodyObserver, max_bytes: int | None, sent: Sent) -> None:
        #: None after the end has been recorded
        self.observer: BodyObserver | None = observer
        #: request of the response
        self.sent = sent
        #: bytes of the longest body; None for no limit
        self.limit = max_bytes
        #: bytes that may still be read, if there is a limit
        self.left = max_bytes or 0
        #: id of the thread that is reading
        self.reader: int | None = None
        #: True if the last read decoded the content
        self.decodes = False
        self.paused = False

    def begin(self) -> None:
        """Record the start of a read."""
        self.reader = threading.get_ident()
        if self.observer and self.paused:
            self.paused = False
            self.observer.resume()

    def pause(self) -> None:
        """Record the end of a read that was not the last."""
        self.reader = None
        if self.observer and not self.paused:
            self.paused = True
            self.observer.pause()

    def end(self, error: BaseException | None) -> None:
        """Record the end of the body. Only the first call counts."""
        self.reader = None
        observer, self.observer = self.observer, None
        if observer:
            if self.paused:
                observer.resume()
            observer.end(error)

    def abandon(self) -> None:
        """Record that the caller reads no more, which is a success."""
        if self.reader != threading.get_ident():  # else urllib3 itself closes or releases it, in the middle of a read
            self.end(None)

    def count(self, raw: HTTPResponse, chunk: bytes) -> None:
        """Count the bytes of a read. Raises BodyTooLargeError."""
        if self.limit is None:
            return
        self.left -= len(chunk)
        if self.left < 0:
            raise too_large(raw, self.limit, self.sent.request)

    def chunk_bytes(self) -> int:
        """Return the bytes of the longest chunk to read: no more than may still be read, and the byte that exceeds."""
        return _LARGEST_CHUNK if self.limit is None else min(max(self.left, 0) + 1, _LARGEST_CHUNK)


class _ObservedResponse(BoundedResponse):
    """A response of urllib3 whose reads are observed. All reads pass through `read`, `read1` or `read_chunked`."""

    _progress: _Progress

    def read(self, amt: int | None = None, decode_content: bool | None = None, cache_content: bool = False) -> bytes:
        """Read as urllib3 does. Raises BodyTooLargeError and the errors of urllib3."""
        if amt is not None and amt >= 0:
            return self._observe(super().read, amt, decode_content)
        is_first, chunks = not self.tell(), []
        # In chunks: a single read would allocate as much as the dependency announces.
        while chunk := self._observe(super().read, _CHUNK_BYTES, decode_content):
            chunks.append(chunk)
        data = b"".join(chunks)
        if cache_content and is_first:
            self._body = data  # as urllib3 does
        return data

    def read1(self, amt: int | None = None, decode_content: bool | None = None) -> bytes:
        """Read the available bytes, as urllib3 does. Raises BodyTooLargeError and the errors of urllib3."""
        return self._observe(super().read1, _CHUNK_BYTES if amt is None or amt < 0 else amt, decode_content)

    def _observe(self, read: Callable[..., bytes], amt: int, decode_content: bool | None) -> bytes:
        progress = self._progress
        decodes = self.decode_content if decode_content is None else decode_content
        progress.begin()
        try:
            data = read(amt, decode_content)
            progress.decodes = decodes
            progress.count(self, data)
        except BaseException as error:
            if (shown := self._failed(error)) is error:
                raise
            raise shown from error
        # A decoder may have more output after the last byte, until it returns less than was requested.
        decoded = not decodes or len(data) < amt or "content-encoding" not in self.headers
        if amt and (not data or (decoded and self.isclosed())):
            progress.end(None)
        else:
            progress.pause()
        return data

    def read_chunked(self, amt: int | None = None, decode_content: bool | None = None) -> Generator[bytes]:
        """Yield the body chunk by chunk. Raises BodyTooLargeError and the errors of urllib3."""
        progress = self._progress
        if amt == 0:
            return
        # Without a number, memory for as many bytes as the dependency announces would be taken in advance.
        amt = progress.chunk_bytes() if amt is None or amt < 0 else amt
        chunks = super().read_chunked(amt, decode_content)
        while True:
            progress.begin()
            try:
                chunk = next(chunks, b"")
                progress.count(self, chunk)
            except BaseException as error:
                if (shown := self._failed(error)) is error:
                    raise
                raise shown from error
            if not chunk:
                progress.end(None)
                return
            progress.pause()
            try:
                yield chunk
            except GeneratorExit:
                chunks.close()
                progress.end(None)
                raise

    def stream(self, amt: int | None = _CHUNK_BYTES, decode_content: bool | None = None) -> Generator[bytes]:
        """Yield the body in parts. Raises BodyTooLargeError and the errors of urllib3."""
        try:
            yield from super().stream(amt, decode_content)
        except GeneratorExit:  # the caller reads no more
            self._progress.end(None)
            raise
        if amt != 0:
            self._progress.end(None)

    def drain_conn(self) -> None:
        """Read and discard the rest of the body, up to the limit. Errors of the dependency are ignored."""
        try:
            while self._observe(super().read, _CHUNK_BYTES, self._progress.decodes):
                pass
        except _DEPENDENCY_ERRORS:
            pass

    def close(self) -> None:
        """Close the connection."""
        if not getattr(self, "_finalizing", False):  # else it is collected unread, not closed
            self._progress.abandon()
        super().close()

    def release_conn(self) -> None:
        """Return the connection to the pool."""
        super().release_conn()
        self._progress.abandon()

    def shutdown(self) -> None:
        """Interrupt a read in another thread."""
        self._progress.abandon()
        super().shutdown()

    def _failed(self, error: BaseException) -> BaseException:
        """Record an error of a read. Return it, or that of urllib3 with a text that names the host."""
        is_callers = not is_interruption(error) and not isinstance(error, _DEPENDENCY_ERRORS)
        if is_callers or isinstance(error, ResponseNotChunked):
            self._progress.pause()
            return error
        super().close()  # a reused connection would take the unread bytes for the next response
        if isinstance(error, HTTPError):
            sent = self._progress.sent
            error = described(error, sent.target, sent.reason_of(error, answered=True))
        self._progress.end(error)
        return error


for _name in ("read1", "shutdown"):  # urllib3 1.26 has neither
    if not hasattr(BoundedResponse, _name):
        delattr(_ObservedResponse, _name)


@lru_cache(maxsize=64)
def _observed(cls: type[HTTPResponse]) -> Any:
    if cls is HTTPResponse:
        return _ObservedResponse
    return cls if issubclass(cls, _ObservedResponse) else type(cls.__name__, (_ObservedResponse, cls), {})
