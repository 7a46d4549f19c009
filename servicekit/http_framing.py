"""Detection of the end of a request while it arrives: a thread starts once the request is complete.

The head is read by gunicorn's own parser, so that both find the same end of a body, however the bytes are split.
"""

import re
from typing import Any

from gunicorn.config import Config  # type: ignore[import-untyped]  # it ships no types
from gunicorn.http import RequestParser  # type: ignore[import-untyped]  # as above
from gunicorn.http.body import ChunkedReader  # type: ignore[import-untyped]  # as above

#: bytes of the request line and the headers together
MAX_HEAD = 32 * 1024
_MAX_LINE = 8 * 1024  # of a chunk's size and its extensions
_END = b"\r\n\r\n"
_BARE = re.compile(rb"(?<!\r)\n")
#: chunks of a body; a parser may search the whole remainder for each of them
MAX_CHUNKS = 2000
_SIZE = re.compile(rb"([0-9a-fA-F]+)[ \t]*(?:;.*)?", re.DOTALL)


class Parser(RequestParser):  # type: ignore[misc]  # it has no types
    """Gunicorn's parser for one request, whose head is read before the body has arrived.

    An error in the head is raised in the thread that handles the request, where gunicorn answers it.
    """

    def __init__(self, cfg: Any, peer: Any) -> None:
        super().__init__(cfg, (), peer)
        self._message: Any = None
        self._error: Exception | None = None

    def read_head(self, head: bytes) -> Any:
        """Return the request that starts with this head, None if it is invalid."""
        self.unreader.unread(head)
        try:
            self._message = super().__next__()
        except Exception as error:  # noqa: BLE001 - raised again in the thread that answers
            self._error = error
        return self._message

    def __next__(self) -> Any:
        if self._error:
            raise self._error
        message, self._message = self._message, None
        return message or super().__next__()


class Framing:
    """Collects the bytes of a request until it is complete.

    It does not validate: a request that the parser will refuse is complete at once, and later bytes are not taken for
    another request.

    Args:
        limit: Largest number of bytes to collect.
        body: Largest `Content-Length`.
        cfg: gunicorn's configuration, for the parser.
        peer: Address of the client, for the parser.
    """

    def __init__(self, limit: int, body: int, cfg: Any = None, peer: Any = None) -> None:
        self.data = bytearray()
        #: True if the request is incomplete
        self.cut = False
        #: True if the client waits for 100 Continue
        self.expects = False
        self._parser = Parser(cfg or Config(), peer)
        self._limit, self._body = limit, body
        self._searched = 0
        self._headed = False
        self._head = 0  # where the headers end
        self._parsed = 0  # bytes that the parser has received
        self._chunked = False
        self._chunks = 0
        self._next = 0  # position of the next chunk's size, or of the end of the request

    def feed(self, received: bytes) -> bool:
        """Add received bytes, none at the end of the connection. Return True if the request is complete or `cut`."""
        self.data += received
        self.cut = not received
        if not self._headed and not self._end_of_head():
            return self.cut
        if self.cut or self._end_of_body():
            return True
        self.cut = len(self.data) >= self._limit
        return self.cut

    def excess(self) -> tuple[int, str] | None:
        """Return status and detail if the request exceeds a limit of the parser, otherwise None."""
        if self._chunks > MAX_CHUNKS:
            return 413, f"the body must come in at most {MAX_CHUNKS} chunks"
        if (self._head if self._headed else len(self.data)) <= MAX_HEAD:
            return None
        status = 431 if b"\r\n" in self.data[:MAX_HEAD] else 414
        return status, f"the request line and the headers must have at most {MAX_HEAD} bytes"

    def parser(self) -> Parser:
        """Return the parser with all received bytes; they are not kept here."""
        self._parser.unreader.unread(bytes(self.data[self._parsed :]))
        self.data = bytearray()  # the connection may be kept for long
        return self._parser

    def _end_of_head(self) -> bool:
        start, self._searched = max(self._searched - 3, 0), len(self.data)
        end = self.data.find(_END, start)
        if end < 0:
            self.cut |= len(self.data) > MAX_HEAD or _BARE.search(self.data, start) is not None
            return False
        self._headed, self._head, self._next = True, end, end + len(_END)
        if end > MAX_HEAD:
            self.cut = True
            return True
        self._parsed = self._next
        message = self._parser.read_head(bytes(self.data[: self._next]))
        if message is None:
            self.cut = True
            return True
        self._chunked = isinstance(message.body.reader, ChunkedReader)
        if not self._chunked:
            length = message.body.reader.length
            self._next += length
            self.cut |= length > self._body
        # 100 Continue is sent here, before the body: gunicorn would send it after the body has arrived.
        told, message._expected_100_continue = message._expected_100_continue, False  # noqa: SLF001  # there is no public way
        self.expects = told and (self._chunked or self._next > self._parsed)
        return True

    def _end_of_body(self) -> bool:
        while self._chunked and self._chunks <= MAX_CHUNKS:
            end = self.data.find(b"\r\n", self._next)
            if end < 0:
                self.cut = len(self.data) - self._next > _MAX_LINE
                return self.cut
            size = _SIZE.fullmatch(self.data, self._next, end)
            if size is None:
                self.cut = True
                return True
            if not (length := int(size[1], 16)):
                return self.data.find(_END, end) >= 0  # after the trailers
            after = end + 2 + length
            self.cut = not b"\r\n".startswith(bytes(self.data[after : after + 2]))
            if self.cut or len(self.data) < after + 2:
                return self.cut
            self._next = after + 2
            self._chunks += 1
        if self._chunked:
            self.cut = True
        return self.cut or len(self.data) >= self._next
