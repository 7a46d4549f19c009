"""Replacing and stopping workers while clients trade loses no request and no trade."""

import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.platform.conftest import Platform
from tests.support.waiting import until

pytestmark = pytest.mark.quiet

ORDER = {"symbol": "AAPL", "quantity": 1, "orderType": "BUY", "price": "150.00"}


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Platform]:
    """Yield separate services, because the tests stop their workers."""
    tmp_path.chmod(0o700)
    platform = Platform(tmp_path)
    try:
        platform.start()
        yield platform
    finally:
        platform.stop()


class Client(threading.Thread):
    """Places orders one after another on a kept connection until it is stopped."""

    def __init__(self, platform: Platform, number: int) -> None:
        super().__init__()
        self._platform = platform
        self._number = number
        self._stop_it = threading.Event()
        self.booked: list[str] = []
        self.failed: list[str] = []

    def run(self) -> None:
        with requests.Session() as session:
            session.trust_env = False
            url = f"http://127.0.0.1:{self._platform.ports['gateway']}/api/v1/trades"
            while not self._stop_it.is_set():
                try:
                    answer = session.post(url, json={"userId": f"deploy-{self._number}", **ORDER}, timeout=20)
                except requests.ConnectionError as error:
                    self.failed.append(repr(error))
                    continue
                if answer.status_code == 201:
                    self.booked.append(answer.json()["tradeId"])
                else:
                    self.failed.append(f"{answer.status_code} {answer.text}")

    def stop(self) -> None:
        self._stop_it.set()
        self.join()


def traded(clients: list[Client]) -> int:
    return sum(len(client.booked) for client in clients)


def stored(platform: Platform) -> set[str]:
    return {trade_id for (trade_id,) in platform.rows("gateway", "SELECT trade_id FROM trades WHERE state = 'FILLED'")}


def test_workers_that_are_replaced_drop_no_request_and_no_trade(fresh: Platform) -> None:
    clients = [Client(fresh, number) for number in range(4)]
    for client in clients:
        client.start()
    for service in ("gateway", "portfolio", "gateway"):
        old = {worker.pid for worker in fresh.workers(service)}
        before = traded(clients)
        fresh.signal(service, signal.SIGHUP)
        until(lambda: not old & {worker.pid for worker in fresh.workers(service)}, f"{service} has new workers")  # noqa: B023 - called before the next round
        until(lambda: traded(clients) > before + 20, "trade goes on")  # noqa: B023 - as above
    for client in clients:
        client.stop()

    assert [client.failed for client in clients] == [[]] * 4
    assert {trade_id for client in clients for trade_id in client.booked} == stored(fresh)


def test_stopping_service_finishes_running_requests(fresh: Platform) -> None:
    clients = [Client(fresh, number) for number in range(4)]
    for client in clients:
        client.start()
    until(lambda: traded(clients) > 40, "clients trade")

    fresh.signal("gateway", signal.SIGTERM)

    assert fresh.wait("gateway") == 0
    for client in clients:
        client.stop()
    answers = [failed for client in clients for failed in client.failed if "ConnectionError" not in failed]
    assert answers == []
    assert {trade_id for client in clients for trade_id in client.booked} <= stored(fresh)
    states = fresh.rows("gateway", "SELECT DISTINCT state FROM trades")
    assert states == [("FILLED",)], "no order was left half done"
    fresh.launch("gateway")
    fresh.until_ready("gateway")
    until(fresh.all_told, "what was left to tell is told after the next start")
    told = fresh.rows("gateway", "SELECT count(*) FROM audit_entries WHERE entry LIKE '%FILLED%'")
    assert told == [(len(stored(fresh)),)]
