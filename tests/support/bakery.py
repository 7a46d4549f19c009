"""A Flask app outside of the platform, with a failing dependency and the extension."""

from pathlib import Path
from typing import Any

import pytest
from flask import Flask, abort
from flask.testing import FlaskClient

from cb import Bulkhead
from cb.integrations.flask import CircuitBreakers

STATUS = "/circuit-breakers/status"
OPEN = "/circuit-breakers/vendor/force-open"
REASON = {"reason": "the vendor migrates"}


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the directory for the ledgers of an app that has no settings."""
    monkeypatch.delenv("CB_ADMIN_TOKEN", raising=False)
    monkeypatch.setenv("CB_STATE_DIR", str(tmp_path / "state"))
    return tmp_path / "state"


def an_app(name: str = "shop", **config: Any) -> Flask:
    app = Flask(name)
    app.config.update(config)
    return app


def guarded(app: Flask, breakers: CircuitBreakers) -> FlaskClient:
    """Give an app a view whose dependency fails, one that has no place free, and errors of its own."""
    vendor = breakers.registry.get("vendor")
    crowded = Bulkhead(breakers.registry.get("crowded"), limit=1)

    @app.get("/price")
    @vendor
    def price() -> str:
        raise TimeoutError

    @app.get("/crowd")
    @crowded
    def crowd() -> Any:
        return app.test_client().get("/crowd")

    @app.get("/own")
    def own() -> str:
        abort(418, "mine")

    return app.test_client()


def trip(client: FlaskClient, times: int) -> None:
    for _ in range(times):
        with pytest.raises(TimeoutError):
            client.get("/price")
