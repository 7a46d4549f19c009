"""Services under real gunicorn workers."""

import os
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from tests.support.shop_service import Service
from tests.support.waiting import until

SIMULATE = "/api/v1/simulate/failure"


def breaker_samples(answer: requests.Response) -> str:
    return "\n".join(line for line in answer.text.splitlines() if line.startswith("circuit_breaker"))


def test_all_workers_answer_the_same(gunicorn: Service, tmp_path: Path) -> None:
    state = {"failure_rate": 0.0, "is_healthy": False, "response_time_ms": 1}
    requests.post(gunicorn.url + SIMULATE, json=state, timeout=5)
    assert [answer.json() for answer in gunicorn.from_each_worker(SIMULATE).values()] == [state, state]

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: requests.get(gunicorn.url + "/api/v1/stock/pen", timeout=5), range(40)))
    refused = gunicorn.from_each_worker("/api/v1/stock/pen")
    assert {answer.json()["code"] for answer in refused.values()} == {"circuit-open"}

    metrics = gunicorn.from_each_worker("/metrics")
    assert len({breaker_samples(answer) for answer in metrics.values()}) == 1
    text = next(iter(metrics.values())).text
    assert 'circuit_breaker_state{name="own-stock",state="OPEN"} 1.0' in text
    assert "circuit_breaker_state_own_stock 1.0" in text
    assert 'flask_http_request_total{method="POST",status="200"} 1.0' in text
    assert "flask_exporter_info{" in text
    assert "pid=" not in text
    assert "_created" not in text

    seen = [answer.json() for answer in gunicorn.from_each_worker("/api/v1/circuit-breaker/status").values()]
    assert [(each["workers"], each["scope"]) for each in seen] == [(2, "host"), (2, "host")]
    first, second = (each["breakers"]["own-stock"] for each in seen)
    assert first["totals"] == second["totals"]
    assert first["totals"]["failures"] >= 3
    assert gunicorn.log.read_text().count("circuit own-stock: CLOSED -> OPEN") == 1


def test_counters_go_on_and_gauges_go_when_a_worker_is_killed(gunicorn: Service, tmp_path: Path) -> None:
    for _ in range(10):
        requests.get(gunicorn.url + "/api/v1/stock/pen", timeout=5)
    workers = gunicorn.from_each_worker("/metrics")
    before = breaker_samples(next(iter(workers.values())))
    killed = next(iter(workers))
    os.kill(int(killed), signal.SIGKILL)

    def replaced() -> bool:
        try:
            return killed not in gunicorn.from_each_worker("/metrics")
        except requests.ConnectionError:
            return False  # it was the dying worker that had taken the connection

    until(replaced)
    after = gunicorn.from_each_worker("/metrics")
    assert {breaker_samples(answer) for answer in after.values()} == {before}
    owners = {file.stem.rpartition("_")[2] for file in (tmp_path / "state").glob("metrics-shop-*/gauge_*")}
    assert owners == set(after)


def test_metrics_go_on_after_a_reload_and_are_gone_after_the_end(gunicorn: Service, tmp_path: Path) -> None:
    requests.post(gunicorn.url + SIMULATE, json={}, timeout=5)
    old = set(gunicorn.from_each_worker("/metrics"))
    gunicorn.process.send_signal(signal.SIGHUP)
    new: dict[str, requests.Response] = {}

    def reloaded() -> bool:
        new.clear()
        new.update(gunicorn.from_each_worker("/metrics"))
        return not old & set(new)

    until(reloaded)
    assert all('flask_http_request_total{method="POST",status="200"} 1.0' in each.text for each in new.values())
    (directory,) = (tmp_path / "state").glob("metrics-shop-*")
    assert directory.stat().st_mode & 0o777 == 0o700
    gunicorn.stop()
    assert gunicorn.process.returncode == 0
    assert not directory.exists()


def test_simulation_of_an_earlier_run_is_forgotten(gunicorn: Service, config: Path, tmp_path: Path) -> None:
    requests.post(gunicorn.url + SIMULATE, json={"is_healthy": False}, timeout=5)
    gunicorn.stop()
    again = Service(tmp_path / "log2")
    try:
        again.wait_until_up()
        assert requests.get(again.url + SIMULATE, timeout=5).json()["is_healthy"] is True
    finally:
        again.stop()


def test_chunked_body_that_is_too_large_is_refused(gunicorn: Service) -> None:
    chunks = (b" " * 10_000 for _ in range(7))
    answer = requests.post(
        gunicorn.url + "/api/v1/orders", data=chunks, headers={"Content-Type": "application/json"}, timeout=5
    )
    assert (answer.status_code, answer.json()["code"]) == (413, "request-entity-too-large")


@pytest.mark.parametrize(
    ("length", "body"),
    [
        ("Transfer-Encoding: chunked", b"zz\r\n{}\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked", b"2\r\n{}xx0\r\n\r\n"),
        ("Transfer-Encoding: chunked", b"2\r\n{}\r\n0\r\nfoo\r\n\r\n"),
        ("Transfer-Encoding: chunked", b"0\r\nfoo\r\n\r\n"),
        ("Transfer-Encoding: chunked", b"9\r\n{}"),
        ("Content-Length: 9", b"{}"),
    ],
    ids=["size", "terminator", "trailer", "trailer-alone", "cut-chunk", "short"],
)
def test_body_unlike_its_headers_is_refused(gunicorn: Service, length: str, body: bytes) -> None:
    head = f"POST /api/v1/orders HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{length}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", int(gunicorn.url.rpartition(":")[2])), timeout=5) as connection:
        connection.sendall(head.encode() + body)
        connection.shutdown(socket.SHUT_WR)
        answer = connection.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"Content-Type: application/problem+json" in answer
    assert b'"malformed-body"' in answer
    assert "Traceback" not in gunicorn.log.read_text()


def test_log_is_json_from_the_first_line_to_the_last(gunicorn: Service) -> None:
    requests.get(gunicorn.url + "/api/v1/stock/pen", timeout=5, headers={"X-Request-ID": "mine"})
    gunicorn.stop()
    lines = gunicorn.log.read_text().splitlines()
    assert all(line.startswith("{") and line.endswith("}") for line in lines)
    assert [line for line in lines if '"request_id": "mine"' in line]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("circuit_breaker: {timout: 5s}", "circuit_breaker.timout must be one of"),
        ("circuit_breaker: {timeout: true}", "circuit_breaker.timeout must be a duration"),
        (
            "circuit_breaker: {max_requests: 5, success_threshold: 9}",
            "circuit_breaker.success_threshold must be at most max_requests",
        ),
        ("services: {shop: {port: 8099, moto: x}}", "services.shop.moto must not be present"),
    ],
)
def test_service_with_a_wrong_setting_does_not_start(config: Path, tmp_path: Path, text: str, message: str) -> None:
    config.write_text(text + ("" if "services" in text else "\nservices: {shop: {port: 8099}}"))
    service = Service(tmp_path / "log")
    assert service.process.wait(20) != 0
    (line,) = service.log.read_text().splitlines()
    assert line.startswith(f"{config}: {message}")
