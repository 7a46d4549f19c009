"""The end of a request, found by the guard as by gunicorn's parser."""

import pytest
from gunicorn.config import Config
from gunicorn.http import RequestParser
from gunicorn.http.errors import NoMoreData, ParseException
from hypothesis import given, settings
from hypothesis import strategies as st

from servicekit.http_framing import MAX_CHUNKS, MAX_HEAD, Framing

LIMIT = 128 * 1024
bodies = st.binary(max_size=300)
chunks = st.lists(st.binary(min_size=1, max_size=40), max_size=8)


def parsed(data: bytes) -> bytes | None:
    """Return the body that gunicorn reads from a request, None if it is incomplete."""
    try:
        body: bytes = next(RequestParser(Config(), [data], ("127.0.0.1", 1))).body.read()
    except NoMoreData:
        return None
    return body


def counted(body: bytes) -> bytes:
    return b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


def chunked(pieces: list[bytes], extension: bytes, trailer: bytes) -> bytes:
    head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: Chunked\r\n\r\n"
    return (
        head
        + b"".join(b"%X%s\r\n%s\r\n" % (len(each), extension, each) for each in [*pieces])
        + b"0\r\n"
        + trailer
        + b"\r\n"
    )


requests = st.one_of(
    bodies.map(counted),
    st.builds(chunked, chunks, st.sampled_from([b"", b";a=b"]), st.sampled_from([b"", b"A: b\r\n"])),
    st.just(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
    st.just(b"\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n"),
)


@given(requests, st.integers(1, 50))
def test_request_is_whole_with_its_last_byte_and_not_before(request_: bytes, piece: int) -> None:
    framing = Framing(LIMIT, LIMIT)
    for start in range(0, len(request_) - 1, piece):
        assert not framing.feed(request_[start : min(start + piece, len(request_) - 1)])
    assert framing.feed(request_[-1:])
    assert (framing.cut, bytes(framing.data)) == (False, request_)
    assert parsed(request_) is not None


@given(requests, st.binary(min_size=1, max_size=50))
def test_bytes_after_a_request_belong_to_the_next(request_: bytes, more: bytes) -> None:
    framing = Framing(LIMIT, LIMIT)
    assert framing.feed(request_ + more)
    assert (framing.cut, bytes(framing.data)) == (False, request_ + more)


@given(st.lists(st.binary(min_size=1, max_size=60), max_size=6), st.sampled_from([b"", counted(b"x" * 9)[:60]]))
def test_random_bytes_never_raise_and_are_complete_at_the_end(pieces: list[bytes], begin: bytes) -> None:
    framing = Framing(LIMIT, LIMIT)
    for piece in [begin, *pieces]:
        if not piece or framing.feed(piece):
            break
    assert framing.feed(b"")
    assert framing.cut


@pytest.mark.parametrize(
    "rest",
    [
        b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"Transfer-Encoding: gzip\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n1;" + b"x" * 9000,
        b"Content-Length: 9999999\r\n\r\n",
        b"Content-Length: 1000000000000000000000000000000\r\n\r\n",
        b"Content-Length: +5\r\n\r\n",
        b"Content-Length: 5\r\nContent-Length: 5\r\n\r\n",
        b"A: b\n",
        b"A: b\r\n" * MAX_HEAD,
        b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 30_000,
    ],
)
def test_invalid_request_is_complete_at_once(rest: bytes) -> None:
    framing = Framing(LIMIT, LIMIT)
    assert framing.feed(b"POST / HTTP/1.1\r\n" + rest)
    assert framing.cut


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /" + b"x" * MAX_HEAD, 414),
        (b"GET /\r\n" + b"x" * MAX_HEAD, 431),
        (b"GET / HTTP/1.1\r\nA: " + b"x" * MAX_HEAD + b"\r\n\r\n", 431),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * (MAX_CHUNKS + 1), 413),
    ],
)
def test_oversized_head_is_not_parsed(data: bytes, status: int) -> None:
    framing = Framing(LIMIT, LIMIT)
    assert framing.feed(data)
    excess = framing.excess()
    assert excess and excess[0] == status


LENGTHS = (
    b"5",
    b"05",
    b"0",
    b"+5",
    b" 5",
    b"5 ",
    b"5\t",
    b"",
    b"5,5",
    b"1_0",
    b"0x5",
    b"\xb25",
    b"0" * 20 + b"5",
    b"-1",
)
CODINGS = (
    b"chunked",
    b"Chunked",
    b"chunked ",
    b"identity, chunked",
    b"identity",
    b"gzip, chunked",
    b"",
    b"chunked;q=1",
)
headers = st.one_of(
    st.builds(lambda value: b"Content-Length: " + value, st.sampled_from(LENGTHS)),
    st.builds(lambda value: b"content-length:" + value, st.sampled_from(LENGTHS)),
    st.builds(lambda value: b"Transfer-Encoding: " + value, st.sampled_from(CODINGS)),
)
contents = st.sampled_from(
    [b"abcde", b"5\r\nabcde\r\n0\r\n\r\n", b"005;x\r\nabcde\r\n0\r\nA: b\r\n\r\n", b"-0\r\n\r\n"]
)


@settings(max_examples=1000)
@given(st.lists(headers, max_size=2), contents, st.integers(1, 200))
def test_body_of_a_kept_connection_is_never_taken_for_another_request(
    told: list[bytes], content: bytes, cut: int
) -> None:
    head = b"\r\n".join([b"POST / HTTP/1.1", b"Host: x", *told]) + b"\r\n\r\n"
    data = head + content + b"GET /next HTTP/1.1\r\nHost: x\r\n\r\n"
    framing, begin = Framing(LIMIT, LIMIT), 0
    for end in sorted({len(head), min(cut, len(data)), len(data)}):
        done, begin = framing.feed(data[begin:end]), end
        if done:
            break
    if done and not framing.cut:  # else the connection is closed
        assert understood(bytes(framing.data), data[begin:]) == understood(data, b"")


def understood(data: bytes, later: bytes) -> object:
    """Return the body that gunicorn reads and the start of the next request; None if it closes the connection."""
    parser = RequestParser(Config(), (), ("127.0.0.1", 1))
    parser.unreader.unread(data)
    try:
        message = next(parser)
        body = message.body.read()
    except (NoMoreData, ParseException, StopIteration):
        return None
    return None if message.should_close() else (body, parser.unreader.take_buffered() + later)


def test_expect_continue_is_recognized_only_before_a_body() -> None:
    one = b"Content-Length: 1\r\n"
    for version, rest, expects in ((b"1.1", one, True), (b"1.1", b"", False), (b"1.0", one, False)):
        framing = Framing(LIMIT, LIMIT)
        framing.feed(b"POST / HTTP/" + version + b"\r\nExpect: 100-Continue\r\n" + rest + b"\r\n")
        assert framing.expects is expects
