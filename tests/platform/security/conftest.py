"""A service with one worker and four threads, and requests to it while other clients misbehave."""

import time
from collections.abc import Iterator
from contextlib import suppress

import pytest
import requests

from tests.platform.security.clients import LIVE, dripping
from tests.support.shop_service import CONFIG, Service, app, client, config, gunicorn

__all__ = ["app", "client", "config", "gunicorn"]

LIMITS = {
    "CB_SERVER__WORKERS": "1",
    "CB_SERVER__THREADS": "4",
    "CB_SERVER__READ_TIMEOUT": "1s",
    "CB_SERVER__WRITE_TIMEOUT": "1s",
}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    directory = tmp_path_factory.mktemp("shop")
    (directory / "config.yaml").write_text(CONFIG)
    own = {"CB_CONFIG": str(directory / "config.yaml"), "CB_STATE_DIR": str(directory / "state")}
    service = Service(directory / "log", **LIMITS, **own)
    try:
        service.wait_until_up()
        yield service
        with dripping(service.url, "headers", 4):
            begin = time.monotonic()
            service.stop()
            assert time.monotonic() - begin < 12  # graceful_timeout is 25 s
        assert "Traceback" not in service.log.read_text()
    finally:
        service.process.kill()
        service.process.wait()


def answers_within(service: Service, seconds: float, times: int = 20) -> bool:
    for _ in range(times):
        begin = time.monotonic()
        with suppress(requests.RequestException):
            requests.get(service.url + LIVE, timeout=seconds)
        if time.monotonic() - begin >= seconds:
            return False
    return True
