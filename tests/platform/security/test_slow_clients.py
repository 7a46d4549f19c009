"""Slow clients against real workers with four threads."""

import json
import socket
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import gunicorn
import psutil
import pytest

from servicekit.gunicorn_worker import worker_class
from tests.platform.security.clients import DRIPS, HEAD, POST, connect, dripping, exchange, idle, receive
from tests.platform.security.conftest import LIMITS, answers_within
from tests.support.shop_service import GUNICORN, Service
from tests.support.waiting import until

pytestmark = pytest.mark.quiet


@pytest.mark.parametrize("kind", DRIPS)
def test_slow_clients_hold_no_thread(shop: Service, kind: str) -> None:
    with dripping(shop.url, kind, 40):
        assert answers_within(shop, 0.5)


@pytest.mark.parametrize("kind", ["headers", "body"])
def test_four_slow_clients_stop_a_service_without_the_guard(config: Path, tmp_path: Path, kind: str) -> None:
    service = Service(tmp_path / "log", (*GUNICORN, "-k", "gthread"), **LIMITS)
    try:
        service.wait_until_up()
        with dripping(service.url, kind, 4):
            until(lambda: not answers_within(service, 0.5, 1))
            assert not answers_within(service, 2, 1)
    finally:
        service.stop()


def test_idle_connections_hold_no_thread_and_are_closed(shop: Service) -> None:
    with idle(shop.url, 200) as connections:
        assert answers_within(shop, 0.5)
        begin = time.monotonic()
        assert [connection.recv(100) for connection in connections] == [b""] * 200
        assert time.monotonic() - begin < 4


def test_kept_connections_hold_no_thread(shop: Service) -> None:
    with ExitStack() as stack:
        for _ in range(200):
            connection = stack.enter_context(connect(shop.url))
            connection.sendall(HEAD + b"\r\n")
            assert receive(connection).startswith(b"HTTP/1.1 200 OK")
        assert answers_within(shop, 0.5)


def test_request_that_does_not_arrive_in_time_is_408(shop: Service) -> None:
    begin = time.monotonic()
    answer = exchange(shop.url, POST + b"Content-Length: 9\r\n\r\n{")
    assert 0.9 < time.monotonic() - begin < 4
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert b"\r\nContent-Type: application/problem+json\r\n" in head
    problem = json.loads(body)
    assert (problem["status"], problem["code"]) == (408, "request-timeout")
    assert problem["detail"] == "the request did not arrive within 1 s"


def test_read_timeout_restarts_with_each_request(shop: Service) -> None:
    with connect(shop.url) as connection:
        for _ in range(4):
            connection.sendall(HEAD)
            threading.Event().wait(0.5)
            connection.sendall(b"\r\n")
            assert receive(connection).startswith(b"HTTP/1.1 200 OK")


def test_half_closed_connection_delays_no_other(shop: Service) -> None:
    stay = [connect(shop.url) for _ in range(20)]
    for connection in stay:
        connection.sendall(HEAD + b"Connection: close\r\n\r\n")
    assert answers_within(shop, 0.5)
    for connection in stay:
        connection.close()


def test_worker_with_few_descriptors_limits_its_connections(config: Path, tmp_path: Path) -> None:
    command = f"ulimit -n 300 && exec {sys.executable} {' '.join(GUNICORN)!s}".replace(
        "shop:create_app()", "'shop:create_app()'"
    )
    service = Service(tmp_path / "log", ("-c", f"import os; os.execv('/bin/sh', ['sh', '-c', {command!r}])"), **LIMITS)
    try:
        service.wait_until_up()
        workers = {each.pid for each in psutil.Process(service.process.pid).children()}
        with idle(service.url, 400):
            (worker,) = workers
            until(lambda: len(psutil.Process(worker).net_connections()) > 100)
            assert {each.pid for each in psutil.Process(service.process.pid).children()} == workers
        until(lambda: answers_within(service, 5, times=1))
        assert "no more than 100 connections" in service.log.read_text()
    finally:
        service.stop()
    assert "Traceback" not in service.log.read_text()


def test_requests_in_one_piece_are_answered_one_after_the_other(shop: Service) -> None:
    order = b'{"quantity": 1, "price": "1.50"}'
    chunked = POST + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(order), order)
    counted = POST + b"Content-Length: %d\r\n\r\n%s" % (len(order), order)
    answer = exchange(shop.url, chunked + counted + HEAD + b"\r\n" + HEAD + b"Connection: close\r\n\r\n")
    assert [answer.count(b"HTTP/1.1 %d " % status) for status in (201, 200)] == [2, 2]


@pytest.mark.parametrize("before", [b"", b"Transfer-Encoding: identity\r\n"])
def test_request_in_single_bytes_is_answered(shop: Service, before: bytes) -> None:
    order = b'{"quantity": 1, "price": "1.50"}'
    coded = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(order), order)
    with connect(shop.url) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for each in POST + before + coded:
            connection.sendall(bytes([each]))
        assert receive(connection).startswith(b"HTTP/1.1 201 ")


def test_client_that_expects_100_continue_receives_it(shop: Service) -> None:
    order = b'{"quantity": 1, "price": "1.50"}'
    with connect(shop.url) as connection:
        connection.sendall(POST + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(order))
        assert connection.recv(4096) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(order)
        assert receive(connection).startswith(b"HTTP/1.1 201 ")  # without a second 100 Continue


@pytest.mark.parametrize(
    ("request_", "status", "code"),
    [
        (b"GET / HTTP/1.1\n\n", 400, "bad-request"),
        (b"\x16\x03\x01\x02\r\n\r\n", 400, "bad-request"),
        (POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", 400, "bad-request"),
        (POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "bad-request"),
        (POST + b"Transfer-Encoding: br\r\n\r\n", 501, "not-implemented"),
        (b"GET /%s HTTP/1.1\r\nHost: x\r\n\r\n" % (b"x" * 5000), 414, "request-uri-too-long"),
        (b"GET /%s" % (b"x" * 50_000), 414, "request-uri-too-long"),
        (HEAD + b"X-Y: 1\r\n" * 150 + b"\r\n", 431, "request-header-fields-too-large"),
        (HEAD + b"X-Y: %s" % (b"x" * 50_000), 431, "request-header-fields-too-large"),
    ],
)
def test_request_refused_before_the_app_gets_a_problem(shop: Service, request_: bytes, status: int, code: str) -> None:
    head, _, body = exchange(shop.url, request_).partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines[1:])
    assert lines[0].startswith(f"HTTP/1.1 {status} ")
    assert headers["Content-Type"] == "application/problem+json"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'"
    problem = json.loads(body)
    assert (problem["status"], problem["code"], problem["request_id"]) == (status, code, headers["X-Request-ID"])


def test_unknown_gunicorn_version_runs_without_the_guard_and_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert worker_class(5, 10) != "gthread"
    for version in ("27.1.0", "28.0.0", "27.0.1.dev0"):
        monkeypatch.setattr(gunicorn, "__version__", version)
        assert worker_class(5, 10) == "gthread"
        assert f"gunicorn {version} is not guarded" in caplog.text
