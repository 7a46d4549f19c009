"""The end of a request, found while the request arrives: a thread begins once there is nothing more to wait for.

The head is read by gunicorn's own parser, so that both find the same end of a body, however the bytes are cut.
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
#: chunks of a body; a parser may look through all that is left for each of them
MAX_CHUNKS = 2000
_SIZE = re.compile(rb"([0-9a-fA-F]+)[ \t]*(?:;.*)?", re.DOTALL)


class Parser(RequestParser):  # type: ignore[misc]  # it has no types
    """Gunicorn's parser for one request, whose head is read before the body has arrived.

    An error of the head is kept for the thread that asks for the request, where gunicorn answers it.
    """

    def __init__(self, cfg: Any, peer: Any) -> None:
        super().__init__(cfg, (), peer)
        self._message: Any = None
        self._error: Exception | None = None

    def read_head(self, head: bytes) -> Any:
        """Return the request that begins with this head, None if it is refused."""
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
    """Collects a request until nothing more is to come that could matter.

    It judges nothing: what the parser will refuse is whole at once, and nothing after it is taken for another request.
    `limit` is the number of bytes of a request that are waited for at most, and `body` those of a body whose length is
    told. `cfg` is gunicorn's configuration and `peer` the client's address, both for the parser.
    """

    def __init__(self, limit: int, body: int, cfg: Any = None, peer: Any = None) -> None:
        self.data = bytearray()
        #: whether more of the request may come than is here
        self.cut = False
        #: whether the client waits to be told to go on
        self.expects = False
        self._parser = Parser(cfg or Config(), peer)
        self._limit, self._body = limit, body
        self._searched = 0
        self._headed = False
        self._head = 0  # where the headers end
        self._parsed = 0  # bytes that the parser has
        self._chunked = False
        self._chunks = 0
        self._next = 0  # where the next chunk's size, or the end of the request, is to be found

    def feed(self, received: bytes) -> bool:
        """Add what has arrived, nothing at the end. Return whether the request is whole, or `cut` short."""
        self.data += received
        self.cut = not received
        if not self._headed and not self._end_of_head():
            return self.cut
        if self.cut or self._end_of_body():
            return True
        self.cut = len(self.data) >= self._limit
        return self.cut

    def excess(self) -> tuple[int, str] | None:
        """Return status and detail for what is too much to be given to a parser, None if nothing is."""
        if self._chunks > MAX_CHUNKS:
            return 413, f"the body must come in at most {MAX_CHUNKS} chunks"
        if (self._head if self._headed else len(self.data)) <= MAX_HEAD:
            return None
        status = 431 if b"\r\n" in self.data[:MAX_HEAD] else 414
        return status, f"the request line and the headers must have at most {MAX_HEAD} bytes"

    def parser(self) -> Parser:
        """Return the parser with all that has arrived; the bytes are not kept here."""
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
        # The answer to it is sent here, before the body: gunicorn would send one when all has arrived.
        told, message._expected_100_continue = message._expected_100_continue, False  # noqa: SLF001  # no other door
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
