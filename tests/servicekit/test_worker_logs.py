"""The log of real workers: a change is logged once, and every line is JSON."""

import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.support.shop_service import Service
from tests.support.waiting import until

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TOKEN = "a-token-of-the-operators"


def lines(service: Service) -> list[dict[str, Any]]:
    return [json.loads(line) for line in service.log.read_text().splitlines()]


def changes(service: Service) -> list[dict[str, Any]]:
    return [line for line in lines(service) if line["logger"] == "cb.circuits" and "to" in line]


@pytest.fixture
def shop(config: Path, tmp_path: Path) -> Iterator[Service]:
    """Yield three workers whose circuit opens for a second."""
    service = Service(
        tmp_path / "log",
        CB_SERVER__WORKERS="3",
        CB_ADMIN_TOKEN=TOKEN,
        CB_BREAKERS__OWN_STOCK__TIMEOUT="1s",
    )
    try:
        service.wait_until_up()
        yield service
    finally:
        service.stop()


def steer(service: Service, action: str, **body: Any) -> requests.Response:
    return requests.post(
        f"{service.url}/api/v1/circuit-breaker/own-stock/{action}",
        json={"reason": "test", **body},
        headers={"Authorization": f"Bearer {TOKEN}", "X-Request-ID": f"op-{action}"},
        timeout=5,
    )


def simulate(service: Service, *, healthy: bool) -> None:
    body = {"is_healthy": healthy, "failure_rate": 0.0, "response_time_ms": 0}
    headers = {"Authorization": f"Bearer {TOKEN}"}
    assert requests.post(f"{service.url}/api/v1/simulate/failure", json=body, headers=headers, timeout=5).ok


def test_change_of_state_is_one_line_of_all_workers_with_the_ids_of_who_caused_it(shop: Service) -> None:
    def call(number: int) -> int:
        headers = {"X-Request-ID": f"call-{number}", "traceparent": f"00-{TRACE}-{number + 1:016x}-01"}
        return requests.get(f"{shop.url}/api/v1/stock/pen", headers=headers, timeout=5).status_code

    simulate(shop, healthy=False)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(call, range(60)))
    simulate(shop, healthy=True)
    until(lambda: call(99) == 200)
    assert steer(shop, "force-open").ok
    assert steer(shop, "reset").ok
    shop.stop()

    ledger = [(line["from"], line["to"], line["generation"]) for line in changes(shop)]
    assert len(set(ledger)) == len(ledger)
    assert [generation for _, _, generation in sorted(ledger, key=lambda each: each[2])] == list(
        range(2, len(ledger) + 2)
    )
    assert ledger[0] == ("CLOSED", "OPEN", 2)
    first = changes(shop)[0]
    assert first["request_id"].startswith("call-") and first["trace_id"] == TRACE
    assert [line["request_id"] for line in changes(shop)[-2:]] == ["op-force-open", "op-reset"]
    assert TOKEN not in shop.log.read_text()


def test_hostile_requests_make_json_lines_only(shop: Service) -> None:
    for sent in (
        b"GET /\x1b[2J HTTP/1.1\r\nHost: x\r\n\r\n",
        b'GET / HTTP/1.1\r\nHost: x\r\nX-Request-ID: a\n{"level": "ERROR"}\r\n\r\n',
        b"\x16\x03\x01 {}\r\n\r\n",
        b"GET / HTTP/9.9\r\nAuthorization: Bearer " + TOKEN.encode() + b"\r\n\r\n",
        b"GET /%0d%0a%1b%5b2J%e2%80%a8 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    ):
        with socket.create_connection(("127.0.0.1", int(shop.url.rpartition(":")[2])), timeout=5) as connection:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            connection.makefile("rb").read()
    shop.stop()
    text = shop.log.read_text()
    assert text.isascii() and text.replace("\n", "").isprintable()
    assert all(line["logger"] and line["message"] for line in lines(shop))
    assert TOKEN not in text
