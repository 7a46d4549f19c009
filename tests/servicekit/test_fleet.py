"""Two hosts of a service with the same server: two state directories, with two real workers each."""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.support.redis_servers import BINARIES, Server
from tests.support.shop_service import Service
from tests.support.waiting import until

pytestmark = pytest.mark.quiet

STATUS = "/api/v1/circuit-breaker/status"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(BINARIES["valkey"], tmp_path / "server") as server:
        yield server


@pytest.fixture
def shops(config: Path, server: Server, tmp_path: Path) -> Iterator[list[Service]]:
    with ExitStack() as stack:
        made = []
        for number in range(2):
            state = {"CB_STATE__URL": server.url, "CB_STATE_DIR": str(tmp_path / f"state{number}")}
            made.append(Service(tmp_path / f"log{number}", **state))
            stack.callback(made[-1].stop)
        for shop in made:
            shop.wait_until_up()
            until(lambda: status(shop)["scope"] == "fleet")  # noqa: B023 - it is called at once
        yield made


def status(shop: Service) -> Any:
    return requests.get(shop.url + STATUS, timeout=5).json()


def stock(shop: Service) -> Any:
    return status(shop)["breakers"]["own-stock"]


def test_hosts_of_a_fleet_share_breakers_and_open_together(shops: list[Service]) -> None:
    first, second = shops
    until(lambda: all(status(shop)["fleet"]["hosts"] == 2 for shop in shops))
    assert status(first)["fleet"]["connected"] is True
    assert status(first)["fleet"]["last_exchange_seconds"] < 2

    requests.post(first.url + "/api/v1/simulate/failure", json={"is_healthy": False}, timeout=5)
    for _ in range(3):
        requests.get(first.url + "/api/v1/stock/pen", timeout=5)
    until(lambda: stock(second)["state"] == "OPEN")

    assert stock(second)["source"] == "fleet"
    assert "fleet: 3 consecutive failures, on 1 host" in stock(second)["why"]
    answer = requests.get(second.url + "/api/v1/stock/pen", timeout=5)
    assert (answer.status_code, int(answer.headers["Retry-After"]) > 0) == (503, True)
    assert "circuit_breaker_fleet_hosts 2.0" in requests.get(second.url + "/metrics", timeout=5).text


def test_another_worker_speaks_for_the_host_when_the_agents_is_killed(shops: list[Service], tmp_path: Path) -> None:
    (lock,) = (tmp_path / "state0").glob("*.locks/fleet")

    def agents() -> list[int]:
        held = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
        return [int(line[4]) for line in held if line[5].endswith(f":{lock.stat().st_ino}")]

    (agent,) = agents()
    os.kill(agent, signal.SIGKILL)
    until(lambda: agents() not in ([], [agent]), seconds=2)
    until(lambda: status(shops[0])["fleet"]["last_exchange_seconds"] < 0.5, seconds=2)


def test_service_goes_on_as_a_host_alone_while_the_server_is_away(shops: list[Service], server: Server) -> None:
    server.kill()
    until(lambda: all(status(shop)["scope"] == "host" for shop in shops))
    assert status(shops[0])["fleet"]["connected"] is False
    assert requests.get(shops[0].url + "/api/v1/stock/pen", timeout=5).status_code == 200
    assert requests.get(shops[0].url + "/api/v1/health/ready", timeout=5).status_code == 200


def test_change_of_state_is_one_line_on_each_host(shops: list[Service]) -> None:
    first, second = shops
    until(lambda: all(status(shop)["fleet"]["hosts"] == 2 for shop in shops))
    requests.post(first.url + "/api/v1/simulate/failure", json={"is_healthy": False}, timeout=5)
    for _ in range(3):
        requests.get(first.url + "/api/v1/stock/pen", headers={"X-Request-ID": "mine"}, timeout=5)
    until(lambda: stock(second)["state"] == "OPEN" and stock(first)["source"] == "fleet")
    for shop in shops:
        shop.stop()

    for shop in shops:
        told = [json.loads(line) for line in shop.log.read_text().splitlines()]
        changes = [(line["to"], line["generation"]) for line in told if line["logger"] == "cb.circuits"]
        assert len(set(changes)) == len(changes) >= 1
        assert changes[0] == ("OPEN", 2)
