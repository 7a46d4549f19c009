"""A request that arrives in pieces is parsed like the whole request."""

import pytest
from gunicorn.config import Config
from gunicorn.http import RequestParser
from gunicorn.http.errors import NoMoreData, ParseException
from hypothesis import given, settings
from hypothesis import strategies as st

from servicekit.http_framing import Framing
from tests.servicekit.test_http_framing import CODINGS, LENGTHS, LIMIT

LINES = (
    *(
        b"Transfer-Encoding: " + each
        for each in (*CODINGS, b"gzip", b"deflate", b"chunked, gzip", b"gzip, identity, chunked")
    ),
    *(b"Content-Length: " + each for each in LENGTHS),
    *(b"TRANSFER-ENCODING:chunked", b"transfer-encoding:\tchunked\t", b"Transfer-Encoding : chunked"),
    *(b"Transfer-Encoding: gzip,\r\n chunked", b"Content-Length:\r\n\t5", b" Content-Length: 5", b"Content_Length: 5"),
    *(b"Transfer_Encoding: chunked", b"X: Transfer-Encoding: chunked", b"Trailer: Content-Length", b"TE: trailers"),
    *(
        b"Expect: 100-continue",
        b"Expect: 100-CONTINUE ",
        b"Expect: 200-ok",
        b"Connection: close",
        b"Connection: keep-alive",
    ),
    *(b"Host: x", b"Content-Type: text/plain", b"Content-Type: text/html", b"Cookie: a=b", b": x", b"A", b"A\x00: b"),
)
STARTS = (
    b"POST / HTTP/1.1",
    b"POST / HTTP/1.0",
    b"\r\nPUT / HTTP/1.1",
    b"GET / HTTP/1.1",
    b"post / HTTP/1.1",
    b"POST /",
)
CONTENTS = (
    *(b"", b"abcde", b"5\r\nabcde\r\n0\r\n\r\n", b"005;x\r\nabcde\r\n0\r\nA: b\r\n\r\n", b"-0\r\n\r\n"),
    *(
        b'5 ;x="y"\r\nabcde\r\n00\r\nA: b\r\nC: d\r\n\r\n',
        b"5\r\nabcdeXX0\r\n\r\n",
        b"5\r\nabcde\r\n0\r\nHost: y\r\n\r\n",
    ),
    *(
        b"0x5\r\nabcde\r\n0\r\n\r\n",
        b"+5\r\nabcde\r\n0\r\n\r\n",
        b"0_5\r\nabcde\r\n0\r\n\r\n",
        b" 5\r\nabcde\r\n0\r\n\r\n",
    ),
    *(
        b"1;a\rb\r\nx\r\n0\r\n\r\n",
        b"000000000000000000000005\r\nabcde\r\n0\r\n\r\n",
        b"5\nabcde\n0\n\n",
        b"\r\n0\r\n\r\n",
    ),
)


def alone(data: bytes) -> tuple[bytes, bytes] | None:
    """Return the body that gunicorn alone reads and the rest, None if it refuses the request."""
    parser = RequestParser(Config(), [data], ("127.0.0.1", 1))
    try:
        body: bytes = next(parser).body.read()
    except (NoMoreData, ParseException, StopIteration):
        return None
    return body, parser.unreader.take_buffered()


def behind(data: bytes, cuts: list[int]) -> tuple[bytes, bytes] | None:
    """Return the same behind the guard, with bytes that arrive in pieces before the client waits."""
    framing, begin = Framing(LIMIT, LIMIT), 0
    for end in sorted({*(min(each, len(data)) for each in cuts), len(data)} - {0}):
        done, begin = framing.feed(data[begin:end]), end
        if done:
            break
    else:
        framing.feed(b"")
    parser = framing.parser()
    try:
        body: bytes = next(parser).body.read()
    except (NoMoreData, ParseException, StopIteration):
        return None
    return body, parser.unreader.take_buffered() + data[begin:]


@settings(max_examples=1000)
@given(
    st.sampled_from(STARTS),
    st.lists(st.sampled_from(LINES), max_size=4),
    st.sampled_from(CONTENTS),
    st.sampled_from([b"", b"GET /next HTTP/1.1\r\nHost: x\r\n\r\n"]),
    st.lists(st.integers(1, 250), max_size=8),
)
def test_request_in_pieces_is_read_as_gunicorn_reads_it_alone(
    start: bytes, lines: list[bytes], content: bytes, more: bytes, cuts: list[int]
) -> None:
    head = b"\r\n".join([start, *lines]) + b"\r\n\r\n"
    data = head + content + more
    assert behind(data, [*cuts, len(head)]) == alone(data)


@pytest.mark.parametrize("first", [b"gzip", b"identity", b"deflate"])
@pytest.mark.parametrize("cut", range(1, 23, 3))
def test_body_under_codings_in_two_lines_is_waited_for(first: bytes, cut: int) -> None:
    head = b"POST / HTTP/1.1\r\nTransfer-Encoding: " + first + b"\r\nTransfer-Encoding: chunked\r\n\r\n"
    content = b"5\r\nabcde\r\n3\r\nfgh\r\n0\r\n\r\n"
    framing = Framing(LIMIT, LIMIT)
    assert not framing.feed(head)
    assert not framing.feed(content[:cut])
    assert framing.feed(content[cut:])
    assert next(framing.parser()).body.read() == b"abcdefgh"


@pytest.mark.parametrize("setting", ["permit_obsolete_folding", "strip_header_spaces"])
def test_gunicorn_setting_for_the_head_is_respected(setting: str) -> None:
    cfg = Config()
    cfg.set(setting, True)
    line = {"permit_obsolete_folding": b"gzip,\r\n chunked", "strip_header_spaces": b"chunked"}[setting]
    name = b"Transfer-Encoding " if setting == "strip_header_spaces" else b"Transfer-Encoding"
    framing = Framing(LIMIT, LIMIT, cfg)
    assert not framing.feed(b"POST / HTTP/1.1\r\n" + name + b": " + line + b"\r\n\r\n")
    assert framing.feed(b"1\r\nx\r\n0\r\n\r\n")
    assert next(framing.parser()).body.read() == b"x"


def test_invalid_chunk_is_refused_at_once() -> None:
    for content in (b"0x5\r\n", b"+5\r\n", b"1_0\r\n", b" 5\r\n", b"\r\n", b"1\r\nxy", b"1\r\nx\rz"):
        framing = Framing(LIMIT, LIMIT)
        assert not framing.feed(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
        assert framing.feed(content), content
        with pytest.raises(ParseException):
            next(framing.parser()).body.read()
