"""The body of a response: outcome and limits for every way to read `raw`."""

import csv
import gc
import gzip
import io
import pickle
import shutil
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import requests
import urllib3

from cb import BreakerConfig, State
from cb.http import BodyTooLargeError
from cb.testing import FakeClock
from tests.http.bodies import LINES, Asked, send
from tests.support.misbehaving import Act, Server, drip_body

Read = Callable[[requests.Response], Any]


def until_empty(read: Callable[[], Any]) -> bytes:
    return b"".join(iter(read, b""))


def read_into(response: requests.Response) -> bytes:
    got, buffer = b"", bytearray(1000)
    while number := response.raw.readinto(buffer):
        got += buffer[:number]
    return got


def copy(response: requests.Response) -> bytes:
    shutil.copyfileobj(response.raw, out := io.BytesIO())
    return out.getvalue()


def as_text(response: requests.Response) -> bytes:
    response.raw.auto_close = False
    return "".join(io.TextIOWrapper(response.raw, newline="")).encode()


def within_with(response: requests.Response) -> bytes:
    with response.raw as raw:
        return until_empty(lambda: raw.read(700))


def zero_first(response: requests.Response) -> bytes:
    assert response.raw.read(0) == b""
    return bytes(response.raw.read())


READERS: dict[str, Read] = {
    "content": lambda r: r.content,
    "iter_content": lambda r: b"".join(r.iter_content(100)),
    "iter_content(None)": lambda r: b"".join(r.iter_content(None)),
    "iter_lines": lambda r: b"".join(line + b"\n" for line in r.iter_lines()),
    "read": lambda r: r.raw.read(),
    "read(-1)": lambda r: r.raw.read(-1),
    "read(n)": lambda r: until_empty(lambda: r.raw.read(100)),
    "read(n) of more": lambda r: r.raw.read(1 << 20) + r.raw.read(1),
    "read(0) first": zero_first,
    "read1": lambda r: until_empty(r.raw.read1),
    "read1(n)": lambda r: until_empty(lambda: r.raw.read1(100)),
    "readinto": read_into,
    "readline": lambda r: until_empty(r.raw.readline),
    "readlines": lambda r: b"".join(r.raw.readlines()),
    "iterated": lambda r: b"".join(r.raw),
    "next": lambda r: until_empty(lambda: next(r.raw, b"")),
    "stream": lambda r: b"".join(r.raw.stream(100)),
    "data": lambda r: r.raw.data,
    "BufferedReader": lambda r: io.BufferedReader(r.raw).read(),
    "TextIOWrapper": as_text,
    "copyfileobj": copy,
    "with raw": within_with,
}


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("reader", READERS)
def test_body_that_is_read_to_its_end_is_a_success_at_once(asked: Asked, reader: str, *, chunked: bool) -> None:
    response = asked.get(send(LINES, chunked=chunked))
    assert asked.outcome == ((0, 0, 0), 1)

    assert READERS[reader](response) == LINES

    assert asked.outcome == ((1, 0, 0), 0)


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("reader", READERS)
def test_body_that_is_cut_off_is_a_failure(asked: Asked, reader: str, *, chunked: bool) -> None:
    response = asked.get(send(LINES, claimed=2 * len(LINES), chunked=chunked))

    with pytest.raises((urllib3.exceptions.HTTPError, requests.RequestException)):
        READERS[reader](response)

    assert asked.outcome == ((0, 1, 0), 0)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("act", [send(LINES), send(LINES, chunked=True)])
def test_body_beyond_the_limit_counts_as_neither(asked: Asked, reader: str, act: Act) -> None:
    asked.use(max_body_bytes=len(LINES) - 1)

    with pytest.raises(BodyTooLargeError):
        READERS[reader](asked.get(act))

    assert asked.outcome == ((0, 0, 1), 0)


@pytest.mark.parametrize("reader", ["read1", "readinto", "readline", "data", "BufferedReader"])
def test_slow_body_is_a_failure_at_the_deadline(asked: Asked, reader: str) -> None:
    asked.use(timeout=0.2)

    with pytest.raises(urllib3.exceptions.ReadTimeoutError):
        READERS[reader](asked.get(drip_body))

    assert asked.outcome == ((0, 1, 0), 0)


def decoded(response: requests.Response) -> bytes:
    response.raw.decode_content = True
    return copy(response)


def decoded_by_partial(response: requests.Response) -> bytes:
    response.raw.read = partial(response.raw.read, decode_content=True)
    return copy(response)


ZIPPED: dict[str, Read] = {
    "decode_content": decoded,
    "partial": decoded_by_partial,
    "read": lambda r: r.raw.read(decode_content=True),
    "stream": lambda r: b"".join(r.raw.stream(9, decode_content=True)),
    "read1": lambda r: until_empty(lambda: r.raw.read1(9, decode_content=True)),
    "exactly": lambda r: r.raw.read(len(LINES), decode_content=True) + r.raw.read(1, decode_content=True),
    "iterated": lambda r: b"".join(r.raw),
    "GzipFile": lambda r: gzip.GzipFile(fileobj=r.raw).read(),
}


@pytest.mark.parametrize("reader", ZIPPED)
def test_compressed_body_is_decompressed_as_in_requests(asked: Asked, reader: str) -> None:
    response = asked.get(send(gzip.compress(LINES), "Content-Encoding: gzip"))

    assert ZIPPED[reader](response) == LINES

    assert asked.outcome == ((1, 0, 0), 0)


@pytest.mark.parametrize("reader", [name for name in ZIPPED if name != "GzipFile"])
def test_body_that_is_too_large_after_decompression_counts_as_neither(asked: Asked, reader: str) -> None:
    asked.use(max_body_bytes=len(LINES) - 1)

    with pytest.raises(BodyTooLargeError):
        ZIPPED[reader](asked.get(send(gzip.compress(LINES), "Content-Encoding: gzip")))

    assert asked.outcome == ((0, 0, 1), 0)


def test_body_that_cannot_be_decompressed_is_a_failure(asked: Asked) -> None:
    with pytest.raises(urllib3.exceptions.DecodeError):
        asked.get(send(b"no gzip", "Content-Encoding: gzip")).raw.read1(5, decode_content=True)

    assert asked.outcome == ((0, 1, 0), 0)


def test_csv_reader_raises_for_a_body_that_is_cut_off(asked: Asked) -> None:
    with pytest.raises(urllib3.exceptions.ProtocolError), asked.get(send(LINES, claimed=99_999)) as response:
        list(csv.reader(io.TextIOWrapper(io.BufferedReader(response.raw))))

    assert asked.outcome == ((0, 1, 0), 0)


def test_body_read_chunk_by_chunk_has_the_chunks_of_the_server(asked: Asked) -> None:
    chunk = b"x" * 100_000

    assert list(asked.get(send(chunk, chunked=True)).raw.read_chunked()) == [chunk]

    assert asked.outcome == ((1, 0, 0), 0)


@pytest.mark.parametrize(("claimed", "outcome"), [(None, (1, 0, 0)), (99_999, (0, 1, 0))])
def test_body_that_is_drained_counts_as_it_ends(
    asked: Asked, claimed: int | None, outcome: tuple[int, int, int]
) -> None:
    response = asked.get(send(LINES, claimed=claimed))
    response.raw.read(7)

    response.raw.drain_conn()

    assert asked.outcome == (outcome, 0)


def test_endless_body_is_drained_up_to_the_limit(asked: Asked) -> None:
    asked.use(max_body_bytes=100)

    asked.get(send(LINES)).raw.drain_conn()

    assert asked.outcome == ((0, 0, 1), 0)


@pytest.mark.parametrize(
    "mistake",
    [
        lambda raw: raw.read("much"),
        lambda raw: next(raw.read_chunked()),
        lambda raw: (raw.read(1, decode_content=True), raw.read(1, decode_content=False)),
    ],
)
def test_caller_error_during_a_read_is_no_outcome(asked: Asked, mistake: Callable[[Any], object]) -> None:
    response = asked.get(send(gzip.compress(LINES), "Content-Encoding: gzip"))

    with pytest.raises((TypeError, RuntimeError, urllib3.exceptions.ResponseNotChunked)):
        mistake(response.raw)
    assert asked.outcome == ((0, 0, 0), 1)

    response.close()
    assert asked.outcome == ((1, 0, 0), 0)


@pytest.mark.parametrize(
    "leave",
    [
        lambda response: response.close(),
        lambda response: response.raw.close(),
        lambda response: response.raw.release_conn(),
        lambda response: response.raw.shutdown(),
        lambda response: response.raw.stream(5).close() or response.raw.close(),
        lambda response: next(response.iter_content(5)),
    ],
)
def test_body_that_is_closed_half_read_is_a_success(asked: Asked, leave: Read) -> None:
    response = asked.get(send(LINES))
    response.raw.read(5)

    leave(response)
    gc.collect()

    assert asked.outcome == ((1, 0, 0), 0)


def test_body_that_is_collected_half_read_counts_as_neither(asked: Asked) -> None:
    response = asked.get(send(LINES))
    response.raw.read(5)

    del response
    gc.collect()
    asked.breaker.control.evaluate()

    assert asked.outcome == ((0, 0, 1), 0)


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_response_without_a_body_is_a_success_before_it_is_read(
    asked: Asked, session: requests.Session, server: Server, method: str
) -> None:
    status = "200 OK\r\nContent-Length: 5" if method == "HEAD" else "204 No Content"
    server.act = lambda connection: connection.sendall(f"HTTP/1.1 {status}\r\n\r\n".encode())

    response = session.request(method, server.url, stream=True)

    assert asked.outcome == ((1, 0, 0), 0)
    assert response.raw.read() == response.content == b""


def test_raw_behaves_as_without_an_adapter(asked: Asked) -> None:
    response = asked.get(send(b'{"a": 1}', "X-Of: theirs"))
    raw = response.raw

    assert isinstance(raw, urllib3.HTTPResponse) and isinstance(raw, io.IOBase)
    assert (raw.status, raw.headers["X-Of"], raw.tell(), raw.closed) == (200, "theirs", 0, False)
    assert raw.json() == {"a": 1}
    assert raw.data == b'{"a": 1}'
    assert pickle.loads(pickle.dumps(asked.get(stream=False))).content == b'{"a": 1}'


def test_body_of_a_redirect_that_is_followed_counts_for_itself(
    asked: Asked, session: requests.Session, server: Server
) -> None:
    def redirect(connection: Any) -> None:
        server.act = send(LINES)
        connection.sendall(b"HTTP/1.1 302 Found\r\nContent-Length: 4\r\nLocation: /there\r\n\r\nhere")

    server.act = redirect

    assert session.get(server.url, timeout=5).content == LINES

    assert asked.outcome == ((2, 0, 0), 0)


def test_responses_that_are_kept_unread_are_not_taken_for_calls_that_hang(asked: Asked, clock: FakeClock) -> None:
    asked.use(clock, BreakerConfig(call_timeout=5, minimum_requests=5, slow_call_rate_threshold=0.5))
    kept = [asked.get(send(LINES)) for _ in range(12)]
    kept[0].raw.read(5)

    clock.advance(600)
    asked.breaker.control.evaluate()

    assert asked.breaker.state is State.CLOSED
    assert asked.outcome == ((0, 0, 0), 12)
    assert [len(response.content) for response in kept[1:]] == [len(LINES)] * 11
    totals = asked.breaker.snapshot().totals
    assert (totals.successes, totals.slow) == (11, 0)


def test_time_of_the_caller_between_two_reads_does_not_count(asked: Asked) -> None:
    asked.use(timeout=0.3)
    response = asked.get(send(LINES * 1000, chunked=True))

    got = response.raw.read(5)
    threading.Event().wait(0.4)

    assert got + response.raw.read() == LINES * 1000
    assert asked.outcome == ((1, 0, 0), 0)


def test_probe_whose_body_is_kept_unread_closes_the_circuit(asked: Asked, clock: FakeClock) -> None:
    asked.use(
        clock, BreakerConfig(failure_threshold=1, timeout=10, max_requests=1, success_threshold=1, timeout_jitter=0)
    )
    with pytest.raises(requests.RequestException):
        asked.get(send(LINES, claimed=99_999), stream=False)
    assert asked.breaker.state is State.OPEN
    clock.advance(10)
    kept = asked.get(send(LINES))
    assert asked.breaker.state is State.HALF_OPEN

    clock.advance(60)
    asked.breaker.control.evaluate()

    assert asked.breaker.state is State.CLOSED
    kept.close()


@pytest.mark.parametrize("read", [0, 5])
def test_probe_whose_body_is_collected_unread_closes_the_circuit(asked: Asked, clock: FakeClock, read: int) -> None:
    asked.use(
        clock, BreakerConfig(failure_threshold=1, timeout=10, max_requests=1, success_threshold=1, timeout_jitter=0)
    )
    with pytest.raises(requests.RequestException):
        asked.get(send(LINES, claimed=99_999), stream=False)
    clock.advance(10)
    response: Any = asked.get(send(LINES))
    response.raw.read(read)

    del response
    gc.collect()
    asked.breaker.control.evaluate()

    assert asked.breaker.state is State.CLOSED
