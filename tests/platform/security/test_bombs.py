"""Bodies that are small on the wire and large in memory: their cost for a real worker."""

import os
from collections.abc import Iterator

import psutil
import pytest
import requests

from servicekit.body import MAX_BODY
from tests.platform.security.clients import POST, connect
from tests.support.shop_service import CONFIG, Service

ORDERS = "/api/v1/orders"
TYPE = {"Content-Type": "application/json"}
MOST = 20 * 1024 * 1024
PAD = "x" * (MAX_BODY - 100)
BOMBS = {
    "arrays": "[" * MAX_BODY,
    "closed-arrays": "[" * 32_000 + "]" * 32_000,
    "objects": '{"a":' * 13_000,
    "nested-field": '{"lines":' + "[" * 30_000 + "]" * 30_000 + "}",
    "integer": '{"quantity":' + "9" * 65_000 + "}",
    "exponent": '{"price": 1e99999999}',
    "tiny-exponent": '{"price": 1e-99999999}',
    "decimals": '{"price": 0.' + "1" * 65_000 + "}",
    "text-exponent": '{"price": "1e99999999"}',
    "keys": "{" + ",".join(f'"k{number}":0' for number in range(5_000)) + "}",
    "same-key": "{" + ",".join(['"a":0'] * 10_000) + "}",
    "lines": '{"lines":[' + ",".join(["{}"] * 20_000) + "]}",
    "escapes": '{"gift":"' + "\\u0000" * 10_000 + '"}',
    "surrogates": '{"gift":"' + "\\ud800" * 10_000 + '"}',
    "text": '{"gift":"' + PAD[:-20] + '"}',
    "no-utf-8": b'{"gift":"' + b"\xff" * 60_000 + b'"}',
    "gzip": b"\x1f\x8b" + b"\x00" * 1000,
}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    directory = tmp_path_factory.mktemp("shop")
    (directory / "config.yaml").write_text(CONFIG)
    own = {"CB_CONFIG": str(directory / "config.yaml"), "CB_STATE_DIR": str(directory / "state")}
    service = Service(directory / "log", CB_SERVER__WORKERS="1", **own)
    try:
        service.wait_until_up()
        yield service
    finally:
        service.stop()
    assert "Traceback" not in service.log.read_text()


def resident(service: Service) -> int:
    (worker,) = psutil.Process(service.process.pid).children()
    size: int = worker.memory_info().rss
    return size


def cpu(service: Service) -> float:
    (worker,) = psutil.Process(service.process.pid).children()
    spent: float = sum(worker.cpu_times()[:2])
    return spent


def chunks(body: bytes, size: int = 8192) -> Iterator[bytes]:
    yield from (body[start : start + size] for start in range(0, len(body), size))


@pytest.mark.parametrize("bomb", BOMBS)
def test_bomb_is_refused_at_little_cost(shop: Service, bomb: str) -> None:
    body = BOMBS[bomb]
    data = body if isinstance(body, bytes) else body.encode()
    assert len(data) <= MAX_BODY
    before, begin = resident(shop), cpu(shop)
    with requests.Session() as session:
        for _ in range(10):
            for sent in (data, chunks(data)):
                answer = session.post(shop.url + ORDERS, data=sent, headers=TYPE, timeout=5)
                assert 400 <= answer.status_code < 500
                assert answer.headers["Content-Type"] == "application/problem+json"
                assert len(answer.content) < 10_000
    assert resident(shop) - before < MOST
    assert cpu(shop) - begin < 20 * 0.1  # seconds for a request of 64 KiB


@pytest.mark.parametrize("size", [1, 100_000, 10_000_000])
def test_body_beyond_the_limit_is_refused_unread_however_it_comes(shop: Service, size: int) -> None:
    before = resident(shop)
    body = b" " * (MAX_BODY + size)
    for sent in (body, chunks(body), chunks(body, 60_000)):
        try:
            status = requests.post(shop.url + ORDERS, data=sent, headers=TYPE, timeout=5).status_code
        except requests.ConnectionError:  # closed while the client still sends
            assert size > 1
        else:
            assert status in (400, 413)
    assert resident(shop) - before < MOST


def test_announced_body_of_a_gigabyte_costs_no_memory(shop: Service) -> None:
    before = resident(shop)
    for _ in range(50):
        headers = {**TYPE, "Content-Length": str(2**30)}
        with requests.Session() as session:
            request = session.prepare_request(requests.Request("POST", shop.url + ORDERS, headers=headers))
            request.headers["Content-Length"] = headers["Content-Length"]
            assert session.send(request, timeout=5).status_code == 413
    assert resident(shop) - before < MOST


def test_concurrent_large_bodies_cost_no_more_than_their_size(shop: Service) -> None:
    before = resident(shop)
    stay = [connect(shop.url) for _ in range(100)]
    for connection in stay:
        connection.sendall(POST + b"Content-Length: %d\r\n\r\n" % MAX_BODY + os.urandom(MAX_BODY - 1))
    assert requests.get(f"{shop.url}/api/v1/health/live", timeout=2).ok
    assert resident(shop) - before < 100 * MAX_BODY * 3 + MOST
    for connection in stay:
        connection.close()
