"""Clients that do not read their responses, against real workers with four threads."""

import select
import threading
from contextlib import suppress

import pytest

from tests.platform.security.clients import HEAD, LIVE, connect, receive
from tests.platform.security.conftest import answers_within
from tests.support.shop_service import Service
from tests.support.waiting import until

pytestmark = pytest.mark.quiet


def test_clients_that_do_not_read_are_disconnected(shop: Service) -> None:
    page, watch, stay = HEAD.replace(LIVE.encode(), b"/dashboard/page.css") + b"\r\n", select.poll(), []
    for _ in range(8):
        stay.append(connect(shop.url, receive=1024))
        watch.register(stay[-1], 0)  # a reset is reported for any event mask
        stay[-1].settimeout(0.5)
        with suppress(TimeoutError):
            stay[-1].sendall(page * 20_000)
    until(lambda: len(watch.poll(0)) == len(stay), seconds=10)
    assert answers_within(shop, 0.5)
    for connection in stay:
        connection.close()


def test_pipelining_clients_that_do_not_read_hold_no_thread(shop: Service) -> None:
    page = (
        HEAD.replace(LIVE.encode(), b"/docs/swagger-ui.css") + b"\r\n"
    )  # one fits into the kernel's buffer, eight do not
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            with suppress(OSError), connect(shop.url, receive=1024) as connection:
                connection.sendall(page * 12)
                over.wait(1)

    threads = [threading.Thread(target=ask) for _ in range(24)]
    for thread in threads:
        thread.start()
    try:
        assert answers_within(shop, 0.5, times=40)
    finally:
        over.set()
        for thread in threads:
            thread.join()


def test_unread_responses_time_out_before_a_kept_connection(shop: Service) -> None:
    page, watch = HEAD.replace(LIVE.encode(), b"/docs/swagger-ui.css") + b"\r\n", select.poll()
    with connect(shop.url, receive=1024) as connection:
        watch.register(connection, 0)
        connection.sendall(page)
        until(lambda: bool(watch.poll(0)), seconds=5)  # reset after write_timeout, not after the 75 s of a kept one


def test_slow_reader_within_the_timeout_keeps_its_connection(shop: Service) -> None:
    page = HEAD.replace(LIVE.encode(), b"/docs/swagger-ui.css") + b"\r\n"
    with connect(shop.url, receive=1024) as connection:
        for _ in range(3):
            connection.sendall(page)
            assert b"HTTP/1.1 200" in receive(connection)
            assert not select.select([connection], [], [], 0.4)[0]  # neither data nor the end of the connection
        connection.sendall(HEAD + b"\r\n")
        assert receive(connection).startswith(b"HTTP/1.1 200")
