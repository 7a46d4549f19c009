"""The gateway's reads while a dependency is away: how old an answer may be, and where it is kept."""

from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from gateway import create_app
from gateway.http.schemas import GatewaySettings
from servicekit import SettingsError
from tests.fleet.servers import BINARIES, Server
from tests.support import misbehaving
from tests.support.misbehaving import answer

PATH = "/api/v1/market-data/AAPL"


def read() -> Any:
    """Return what a gateway that has just been started answers."""
    return create_app().test_client().get(PATH)


def test_stale_answers_outlive_a_restart_of_the_gateway(app: Flask, market_data: misbehaving.Server) -> None:
    read()
    market_data.act = answer(503, "{}")

    assert (read().json["stale"], read().json["price"]) == (True, "150.10")


def test_answer_that_is_too_old_is_no_answer(
    monkeypatch: pytest.MonkeyPatch, app: Flask, market_data: misbehaving.Server
) -> None:
    read()
    market_data.act = answer(503, "{}")
    monkeypatch.setenv("CB_SERVICES__GATEWAY__STALE_USABLE_FOR", "1ms")

    assert (read().status_code, read().json["dependency"]) == (503, "market-data")


def test_fresh_answer_saves_a_request_and_is_not_stale(
    monkeypatch: pytest.MonkeyPatch, app: Flask, market_data: misbehaving.Server
) -> None:
    monkeypatch.setenv("CB_SERVICES__GATEWAY__STALE_FRESH_FOR", "1m")

    first, second = read().json, read().json

    assert (first["stale"], first["ageSeconds"], second["stale"]) == (False, None, False)
    assert second["ageSeconds"] >= 0 and second["price"] == first["price"]
    assert len(market_data.requests) == 1


def test_fresh_time_beyond_the_usable_one_stops_the_gateway_at_its_start(
    monkeypatch: pytest.MonkeyPatch, app: Flask
) -> None:
    monkeypatch.setenv("CB_SERVICES__GATEWAY__STALE_FRESH_FOR", "2h")

    with pytest.raises(SettingsError) as refused:
        create_app()

    assert "stale_fresh_for must be at most stale_usable_for" in str(refused.value)


def test_fresh_time_beyond_the_default_of_the_usable_one_is_the_usable_one() -> None:
    assert GatewaySettings().load({"stale_fresh_for": "2h"})["stale_usable_for"] == 7200
    assert GatewaySettings().load({})["stale_usable_for"] == 3600


@pytest.mark.parametrize("url", ["redis://127.0.0.1:{}/0", "redis+cluster://127.0.0.1:{}"])
def test_plain_server_of_the_fleet_has_the_answers_and_any_other_leaves_them_in_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, app: Flask, market_data: misbehaving.Server, url: str
) -> None:
    with Server(BINARIES["valkey"], tmp_path / "server") as server:
        monkeypatch.setenv("CB_STATE__URL", url.format(server.port))
        read()
        kept = server.client.hkeys("cb:stale:{trading-gateway}:values")

    plain = url.startswith("redis://")
    assert kept == (["quotes/AAPL"] if plain else [])
    assert (tmp_path / "state" / "gateway.answers").exists() is not plain
