"""Where a request ends, told while it arrives: how much of it a server has to wait for before it begins to work."""

import re

#: bytes of the request line and the headers together
MAX_HEAD = 32 * 1024
_MAX_LINE = 8 * 1024  # of a chunk's size and its extensions
_END = b"\r\n\r\n"
_BARE = re.compile(rb"(?<!\r)\n")
#: chunks of a body; a parser may look through all that is left for each of them
MAX_CHUNKS = 2000
_LENGTHS = re.compile(rb"\r\ncontent-length[ \t]*:([^\r\n]*)", re.IGNORECASE)
_NUMBER = re.compile(rb"0*([0-9]{1,18})")
_CODING = re.compile(rb"\r\ntransfer-encoding[ \t]*:([^\r\n]*)", re.IGNORECASE)
_EXPECT = re.compile(rb"\r\nexpect[ \t]*:[ \t]*100-continue", re.IGNORECASE)


class Framing:
    """Collects a request until nothing more is to come that could matter.

    It judges nothing: what makes no sense is whole at once, for the parser to refuse, and nothing after it is taken for
    another request. `limit` is how many bytes of a request are waited for at most, and `body` those of a body whose
    length is told.
    """

    def __init__(self, limit: int, body: int) -> None:
        self.data = bytearray()
        #: whether more of the request may come than is here
        self.cut = False
        #: whether the client waits to be told to go on
        self.expects = False
        self._limit, self._body = limit, body
        self._searched = 0
        self._headed = False
        self._head = 0  # where the headers end
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

    def _end_of_head(self) -> bool:
        start, self._searched = max(self._searched - 3, 0), len(self.data)
        end = self.data.find(_END, start)
        if end < 0:
            self.cut |= len(self.data) > MAX_HEAD or _BARE.search(self.data, start) is not None
            return False
        self._headed, self._head, self._next = True, end, end + len(_END)
        head = bytes(self.data[: end + 2])
        coding, lengths = _CODING.search(head), _LENGTHS.findall(head)
        length = _NUMBER.fullmatch(lengths[0].strip(b" \t")) if len(lengths) == 1 else None
        self._chunked = coding is not None
        if coding:
            self.cut |= bool(lengths) or not coding[1].lower().rstrip().endswith(b"chunked")
        elif length:
            self._next += int(length[1])
            self.cut |= int(length[1]) > self._body
        elif lengths:  # a parser may read a number where none is seen here
            self.cut = True
        self.cut |= end > MAX_HEAD
        newer = head.partition(b"\r\n")[0].endswith(b"HTTP/1.1")  # the older one knows no interim answers
        self.expects = newer and bool(length or self._chunked) and _EXPECT.search(head) is not None
        return True

    def _end_of_body(self) -> bool:
        while self._chunked and self._chunks <= MAX_CHUNKS:
            end = self.data.find(b"\r\n", self._next)
            if end < 0:
                self.cut = len(self.data) - self._next > _MAX_LINE
                return self.cut
            size = _size(bytes(self.data[self._next : end]))
            if size is None:
                self.cut = True
                return True
            if size == 0:
                return self.data.find(_END, end) >= 0  # after the trailers
            self._next = end + 2 + size + 2
            self._chunks += 1
        if self._chunked:
            self.cut = True
        return self.cut or len(self.data) >= self._next


def _size(line: bytes) -> int | None:
    """Return the size of a chunk, None where the line tells none."""
    try:
        return max(int(line.partition(b";")[0], 16), 0)
    except ValueError:
        return None
