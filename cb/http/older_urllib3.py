"""Responses of urllib3 before 2.6, which decode all that a read has received, however long that is."""

from collections.abc import Generator
from functools import lru_cache
from inspect import signature
from typing import TYPE_CHECKING, Any

from urllib3 import HTTPResponse
from urllib3.response import GzipDecoder

__all__ = ["BoundedResponse", "bound_reads"]

#: bytes to receive before they are decoded: about 1 MiB of gzip or deflate at most
_ENCODED_BYTES = 1024
#: of other encodings, or of several: their ratio has no such limit
_UNKNOWN_ENCODED_BYTES = 16
_RATIO_IS_LIMITED = frozenset({"gzip", "x-gzip", "deflate"})
#: True for an urllib3 that decodes no more than a read asks for
_IS_BOUNDED = "max_length" in signature(GzipDecoder.decompress).parameters


class _OlderResponse(HTTPResponse):
    """A response that decodes its body a little at a time, and returns as much of it as a read asks for."""

    _held = b""  # decoded, and not yet read

    def read(self, amt: int | None = None, decode_content: bool | None = None, cache_content: bool = False) -> bytes:
        if amt is None or amt < 0:
            return super().read(amt, decode_content, cache_content)
        step = self._step(decode_content)
        held = bytearray(self._held)
        while len(held) < amt:
            piece = super().read(step or amt - len(held), decode_content)
            held += piece
            if not piece and self.isclosed():  # else more follows bytes of which nothing could be decoded
                break
        self._held = bytes(held[amt:])
        return bytes(held[:amt])

    def read1(self, amt: int | None = None, decode_content: bool | None = None) -> bytes:
        step = self._step(decode_content)
        if step is None or amt is None or amt < 0:
            return super().read1(amt, decode_content)
        held = self._held or super().read1(step, decode_content)
        self._held = held[amt:]
        return held[:amt]

    def read_chunked(self, amt: int | None = None, decode_content: bool | None = None) -> Generator[bytes]:
        return super().read_chunked(self._step(decode_content) or amt, decode_content)

    def stream(self, amt: int | None = 2**16, decode_content: bool | None = None) -> Generator[bytes]:
        if self.chunked and self.supports_chunked_reads():
            yield from self.read_chunked(amt, decode_content)
            return
        # The connection is closed before the last bytes are read.
        while amt != 0 and (data := self.read(amt, decode_content)):
            yield data

    def _step(self, decode_content: bool | None) -> int | None:
        """Return the most bytes to receive at once, None if they are not decoded."""
        decodes = self.decode_content if decode_content is None else decode_content
        encoding = self.headers.get("content-encoding", "").strip().lower() if decodes else ""
        if not encoding:
            return None
        return _ENCODED_BYTES if encoding in _RATIO_IS_LIMITED else _UNKNOWN_ENCODED_BYTES


if not hasattr(HTTPResponse, "read1"):  # urllib3 1.26
    del _OlderResponse.read1
if TYPE_CHECKING or _IS_BOUNDED:  # noqa: SIM108 - mypy takes only this for a class
    BoundedResponse = HTTPResponse
else:
    BoundedResponse = _OlderResponse


def bound_reads(raw: Any) -> None:
    """Let a response of urllib3 decode no more than a read asks for, and raise for a body shorter than announced."""
    if isinstance(raw, HTTPResponse):
        raw.enforce_content_length = True  # by default in urllib3 2 alone
        if not (_IS_BOUNDED or isinstance(raw, _OlderResponse)):
            raw.__class__ = _bounded(type(raw))


@lru_cache(maxsize=64)
def _bounded(cls: type[HTTPResponse]) -> Any:
    return _OlderResponse if cls is HTTPResponse else type(cls.__name__, (_OlderResponse, cls), {})
