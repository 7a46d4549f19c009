"""Where a request ends, told while it arrives: how much of it a server has to wait for before it begins to work."""

import re

#: bytes of the request line and the headers together
MAX_HEAD = 32 * 1024
_MAX_LINE = 8 * 1024  # of a chunk's size and its extensions
_END = b"\r\n\r\n"
_BARE = re.compile(rb"(?<!\r)\n")
_LENGTH = re.compile(rb"\r\ncontent-length[ \t]*:[ \t]*([0-9]{1,18})[ \t]*(?=\r\n)", re.IGNORECASE)
_CODING = re.compile(rb"\r\ntransfer-encoding[ \t]*:([^\r\n]*)", re.IGNORECASE)
_EXPECT = re.compile(rb"\r\nexpect[ \t]*:[ \t]*100-continue", re.IGNORECASE)


class Framing:
    """Collects a request until nothing more is to come that could matter.

    It judges nothing: what makes no sense is whole at once, for the parser to refuse. `limit` is how many bytes of a
    request are waited for at most.
    """

    def __init__(self, limit: int) -> None:
        self.data = bytearray()
        #: whether more of the request may come than is here
        self.cut = False
        #: whether the client waits to be told to go on
        self.expects = False
        self._limit = limit
        self._searched = 0
        self._headed = False
        self._chunked = False
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

    def too_long(self) -> int:
        """Return the status for headers that do not end, 0 if they have or may."""
        if self._headed or len(self.data) <= MAX_HEAD:
            return 0
        return 431 if b"\r\n" in self.data else 414

    def _end_of_head(self) -> bool:
        start, self._searched = max(self._searched - 3, 0), len(self.data)
        end = self.data.find(_END, start)
        if end < 0:
            self.cut |= len(self.data) > MAX_HEAD or _BARE.search(self.data, start) is not None
            return False
        self._headed, self._next = True, end + len(_END)
        head = bytes(self.data[: end + 2])
        coding, length = _CODING.search(head), _LENGTH.search(head)
        self._chunked = coding is not None
        if coding:
            self.cut |= length is not None or not coding[1].lower().rstrip().endswith(b"chunked")
        elif length:
            self._next += int(length[1])
            self.cut |= self._next > self._limit
        self.expects = bool(length or self._chunked) and _EXPECT.search(head) is not None
        return True

    def _end_of_body(self) -> bool:
        while self._chunked:
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
        return len(self.data) >= self._next


def _size(line: bytes) -> int | None:
    """Return the size of a chunk, None where the line tells none."""
    try:
        return max(int(line.partition(b";")[0], 16), 0)
    except ValueError:
        return None
