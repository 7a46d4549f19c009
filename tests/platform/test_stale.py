"""Stale reads of the gateway: maximum age and storage."""

from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from marshmallow import ValidationError

from gateway import create_app
from gateway.http.schemas import GatewaySettings
from servicekit import SettingsError
from tests.support import misbehaving
from tests.support.misbehaving import answer
from tests.support.redis_servers import BINARIES, Server

PATH = "/api/v1/market-data/AAPL"


def read() -> Any:
    """Return the response of a newly started gateway."""
    return create_app().test_client().get(PATH)


def test_stale_answers_outlive_a_restart_of_the_gateway(app: Flask, market_data: misbehaving.Server) -> None:
    read()
    market_data.act = answer(503, "{}")

    assert (read().json["stale"], read().json["price"]) == (True, "150.10")


def test_response_older_than_the_maximum_is_not_served(
    monkeypatch: pytest.MonkeyPatch, app: Flask, market_data: misbehaving.Server
) -> None:
    read()
    market_data.act = answer(503, "{}")
    monkeypatch.setenv("CB_SERVICES__GATEWAY__READS_MAX_STALE_AGE", "1ms")

    assert (read().status_code, read().json["dependency"]) == (503, "market-data")


def test_fresh_response_saves_a_request_and_is_not_stale(
    monkeypatch: pytest.MonkeyPatch, app: Flask, market_data: misbehaving.Server
) -> None:
    monkeypatch.setenv("CB_SERVICES__GATEWAY__READS_MAX_AGE", "1m")

    first, second = read().json, read().json

    assert (first["stale"], first["ageSeconds"], second["stale"]) == (False, None, False)
    assert second["ageSeconds"] >= 0 and second["price"] == first["price"]
    assert len(market_data.requests) == 1


def test_fresh_time_above_the_usable_time_is_refused_at_the_start(monkeypatch: pytest.MonkeyPatch, app: Flask) -> None:
    monkeypatch.setenv("CB_SERVICES__GATEWAY__READS_MAX_AGE", "2h")

    with pytest.raises(SettingsError) as refused:
        create_app()

    assert "reads_max_age must be at most reads_max_stale_age" in str(refused.value)


def test_fresh_time_above_the_default_usable_time_extends_it() -> None:
    assert GatewaySettings().load({"reads_max_age": "2h"})["reads_max_stale_age"] == 7200
    assert GatewaySettings().load({})["reads_max_stale_age"] == 3600


def test_names_of_version_1_count_in_place_of_the_shipped_settings() -> None:
    shipped = {"reads_max_age": 0, "reads_max_stale_age": "1h"}
    loaded = GatewaySettings().load({**shipped, "stale_fresh_for": "1m", "stale_usable_for": "2m"})
    assert (loaded["reads_max_age"], loaded["reads_max_stale_age"]) == (60, 120)
    assert not loaded.keys() & {"stale_fresh_for", "stale_usable_for"}
    with pytest.raises(ValidationError) as refused:
        GatewaySettings().load({**shipped, "stale_fresh_for": "2h"})
    assert refused.value.messages == {"stale_fresh_for": ["must be at most reads_max_stale_age"]}


@pytest.mark.parametrize("url", ["redis://127.0.0.1:{}/0", "redis+cluster://127.0.0.1:{}"])
def test_responses_are_stored_on_a_plain_redis_server_and_otherwise_in_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, app: Flask, market_data: misbehaving.Server, url: str
) -> None:
    with Server(BINARIES["valkey"], tmp_path / "server") as server:
        monkeypatch.setenv("CB_STATE__URL", url.format(server.port))
        read()
        kept = server.client.hkeys("cb:stale:{trading-gateway}:values")

    plain = url.startswith("redis://")
    assert kept == (["quotes/AAPL"] if plain else [])
    assert (tmp_path / "state" / "gateway.answers").exists() is not plain
