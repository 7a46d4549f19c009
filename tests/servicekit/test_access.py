"""Authorization of operators and services."""

from pathlib import Path

import pytest
import requests
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from servicekit import SettingsError, load_settings
from tests.support import shop
from tests.support.shop_service import Service

API = "/api/v1/circuit-breaker"
TOKEN = "correct-horse-battery"
REASON = {"reason": "the bank migrates"}


def problem(answer: TestResponse) -> tuple[int, str]:
    assert answer.json is not None
    assert answer.content_type == "application/problem+json"
    return answer.status_code, answer.json["code"]


class TestWithToken:
    @pytest.fixture
    def client(self, config: Path, monkeypatch: pytest.MonkeyPatch) -> FlaskClient:
        assert config.exists()
        monkeypatch.setenv("CB_ADMIN_TOKEN", TOKEN)
        return shop.create_app().test_client()

    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("POST", f"{API}/own-stock/force-open"),
            ("POST", f"{API}/unknown/reset"),
            ("GET", f"{API}/events"),
            ("GET", "/api/v1/simulate/failure"),
            ("POST", "/api/v1/simulate/failure"),
        ],
    )
    @pytest.mark.parametrize("shown", [None, "", "Bearer", f"Bearer {TOKEN}x", f"Basic {TOKEN}", TOKEN, "Bearer \xff"])
    def test_call_that_does_not_show_it_is_refused(
        self, client: FlaskClient, method: str, path: str, shown: str | None
    ) -> None:
        headers = {} if shown is None else {"Authorization": shown}
        answer = client.open(path, method=method, json=REASON, headers=headers)
        assert (problem(answer), answer.headers["WWW-Authenticate"]) == ((401, "unauthorized"), "Bearer")

    def test_call_that_shows_it_passes(self, client: FlaskClient) -> None:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        for method, path, body in (
            ("POST", f"{API}/own-stock/force-open", REASON),
            ("GET", f"{API}/events", None),
            ("POST", "/api/v1/simulate/failure", {}),
        ):
            assert client.open(path, method=method, json=body, headers=headers).status_code == 200

    def test_other_routes_need_no_operators_token(self, client: FlaskClient) -> None:
        assert client.get(f"{API}/status").status_code == 200
        assert client.get("/api/v1/stock/pen").status_code == 200


@pytest.mark.parametrize("token", ["", "short", "with spaces in its middle", "not-ascii-ü-not-ascii"])
def test_token_that_protects_nothing_keeps_the_service_from_its_start(
    config: Path, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    monkeypatch.setenv("CB_ADMIN_TOKEN", token)
    with pytest.raises(SettingsError) as caught:
        load_settings("shop")
    assert "CB_ADMIN_TOKEN must be 16 to 200" in str(caught.value)
    assert not token or token not in str(caught.value)


def test_token_is_in_no_log(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CB_ADMIN_TOKEN", TOKEN)
    service = Service(tmp_path / "log")
    try:
        service.wait_until_up()
        for shown, status in ((TOKEN, 200), (f"{TOKEN}x", 401)):
            headers = {"Authorization": f"Bearer {shown}"}
            answer = requests.post(f"{service.url}{API}/own-stock/disable", json=REASON, headers=headers, timeout=5)
            assert answer.status_code == status
            assert TOKEN not in answer.text
    finally:
        service.stop()
    assert TOKEN not in service.log.read_text() + repr(load_settings("shop"))
