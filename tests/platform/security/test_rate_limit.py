"""The rate limit of a client."""

import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.support import shop
from tests.support.shop_service import Service

PATH = "/api/v1/circuit-breaker/status"
Ask = Callable[..., TestResponse]


@pytest.fixture
def make(config: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., FlaskClient]:
    def make(rate: str = "3/hour", proxies: int = 0) -> FlaskClient:
        monkeypatch.setenv("CB_SERVER__RATE_LIMIT", rate)
        monkeypatch.setenv("CB_SERVER__PROXIES", str(proxies))
        return shop.create_app().test_client()

    return make


def ask(client: FlaskClient, address: str, path: str = PATH, **headers: str) -> int:
    return client.get(path, environ_base={"REMOTE_ADDR": address}, headers=headers).status_code


def test_request_beyond_the_rate_is_429_with_retry_after(make: Callable[..., FlaskClient]) -> None:
    client = make()
    assert [ask(client, "192.0.2.1") for _ in range(5)] == [200, 200, 200, 429, 429]
    answer = client.get(PATH, environ_base={"REMOTE_ADDR": "192.0.2.1"})
    assert answer.json is not None
    assert (answer.content_type, answer.json["code"]) == ("application/problem+json", "rate-limited")
    assert 1 <= int(answer.headers["Retry-After"]) == answer.json["retry_after_seconds"] <= 7200
    assert ask(client, "192.0.2.2") == 200


def test_unknown_routes_and_refused_requests_count_too(make: Callable[..., FlaskClient]) -> None:
    client = make()
    assert [ask(client, "192.0.2.1", path) for path in ("/nothing", "/api/v1/orders", "/")] == [404, 405, 404]
    assert ask(client, "192.0.2.1") == 429


@pytest.mark.parametrize("path", ["/metrics", "/api/v1/health", "/api/v1/health/live", "/api/v1/health/ready"])
def test_health_and_metrics_are_not_limited(make: Callable[..., FlaskClient], path: str) -> None:
    client = make("1/hour")
    assert [ask(client, "192.0.2.1", path) for _ in range(4)] == [200] * 4


@pytest.mark.parametrize("address", ["127.0.0.1", "127.5.5.5", "::1", "::ffff:127.0.0.1"])
def test_this_host_is_not_limited(make: Callable[..., FlaskClient], address: str) -> None:
    client = make("1/hour")
    assert [ask(client, address) for _ in range(4)] == [200] * 4


def test_clients_are_not_limited_without_a_rate(make: Callable[..., FlaskClient]) -> None:
    client = make("null")
    assert [ask(client, "192.0.2.1") for _ in range(10)] == [200] * 10


def test_network_of_an_ipv6_client_is_one_client(make: Callable[..., FlaskClient]) -> None:
    client = make()
    assert [ask(client, f"2001:db8::{n:x}") for n in range(1, 5)] == [200, 200, 200, 429]
    assert ask(client, "2001:db8:0:1::1") == 200
    assert ask(client, "::ffff:192.0.2.1") == ask(client, "192.0.2.1") == 200


def test_forwarded_address_from_a_client_is_ignored(make: Callable[..., FlaskClient]) -> None:
    client = make()
    told = [
        {"X-Forwarded-For": f"10.0.0.{n}", "X-Real-IP": f"10.0.0.{n}", "Forwarded": f"for=10.0.0.{n}"} for n in range(4)
    ]
    assert [ask(client, "192.0.2.1", **headers) for headers in told] == [200, 200, 200, 429]


def test_forwarded_address_from_a_trusted_proxy_is_used(make: Callable[..., FlaskClient]) -> None:
    client = make(proxies=1)
    # The last address is set by the proxy, those before it by the client.
    told = [f"127.0.0.1, 10.0.0.{n}, 192.0.2.1" for n in range(4)]
    assert [ask(client, "127.0.0.1", **{"X-Forwarded-For": each}) for each in told] == [200, 200, 200, 429]
    assert ask(client, "127.0.0.1", **{"X-Forwarded-For": "192.0.2.2"}) == 200
    assert [ask(client, "127.0.0.1", **{"X-Forwarded-For": f"junk{n}"}) for n in range(4)] == [200, 200, 200, 429]


@pytest.mark.parametrize("address", ["192.0.2.1:{}", "[2001:db8::1]:{}"])
def test_port_in_a_forwarded_address_is_ignored(make: Callable[..., FlaskClient], address: str) -> None:
    client = make(proxies=1)
    told = [address.format(50_000 + n) for n in range(4)]
    assert [ask(client, "127.0.0.1", **{"X-Forwarded-For": each}) for each in told] == [200, 200, 200, 429]
    assert ask(client, "127.0.0.1", **{"X-Forwarded-For": "192.0.2.2:50000"}) == 200


def test_rate_whose_file_cannot_be_used_lets_requests_pass_and_is_logged(
    make: Callable[..., FlaskClient], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "state").mkdir(mode=0o700)
    (tmp_path / "state" / "shop.rate").mkdir()
    client = make("100/hour")
    assert [ask(client, "192.0.2.1") for _ in range(20)] == [200] * 20
    assert "rate limit 'shop': store unavailable" in caplog.text


def test_all_workers_count_together(config: Path, tmp_path: Path) -> None:
    service = Service(tmp_path / "log", CB_SERVER__RATE_LIMIT="20/hour", CB_SERVER__PROXIES="1")

    def flood(_: int) -> tuple[int, str]:
        headers = {"X-Forwarded-For": "192.0.2.1", "Connection": "close"}
        answer = requests.get(service.url + PATH, headers=headers, timeout=5)
        return answer.status_code, answer.headers["X-Worker"]

    try:
        service.wait_until_up()
        service.from_each_worker("/api/v1/health/live")
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(flood, range(100)))
    finally:
        service.stop()
    assert [status for status, _ in answers].count(200) == 20
    assert [status for status, _ in answers].count(429) == 80
    assert len({worker for _, worker in answers}) == 2
    assert stat.S_IMODE((tmp_path / "state" / "shop.rate").stat().st_mode) == 0o600


@pytest.mark.parametrize("rate", ["0/second", "many", "5", "5/fortnight", "5/second;9/hour", "true", "5 per second"])
def test_invalid_rate_is_refused(make: Callable[..., FlaskClient], rate: str) -> None:
    from servicekit import SettingsError

    with pytest.raises(SettingsError, match="must be like 200/second"):
        make(rate)
