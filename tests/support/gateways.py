"""The gateway alone, in this process, with stand-ins for its neighbours."""

from pathlib import Path

import pytest
from flask import Flask

import gateway
from tests.support import ROOT


def alone(
    monkeypatch: pytest.MonkeyPatch, directory: Path, *, market_data: str, portfolio: str, **settings: str
) -> Flask:
    """Return its app, for two URLs, without its background work: health checks and completion of trades.

    `settings` are environment variables without their CB_.
    """
    known = {
        "CONFIG": str(ROOT / "config/config.yaml"),
        "STATE_DIR": str(directory / "state"),
        "STATE__URL": "memory://",
        "SERVICES__GATEWAY__DATABASE": f"sqlite:///{directory}/gateway.db",
        "SERVICES__GATEWAY__MARKET_DATA_URL": market_data,
        "SERVICES__GATEWAY__PORTFOLIO_URL": portfolio,
    }
    for name, value in (known | settings).items():
        monkeypatch.setenv(f"CB_{name}", value)
    app = gateway.create_app()
    for duty in app.extensions["background"]:
        duty.close()
    app.extensions["monitor"].close()
    return app
