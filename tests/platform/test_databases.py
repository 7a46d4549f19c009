"""The database settings of gateway and portfolio, and the range of their columns."""

import importlib.util
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest
from flask import Flask
from sqlalchemy import BigInteger

import gateway
import portfolio
from gateway.services.portfolio import HoldingsSchema
from portfolio.booking import CASH_LIMIT
from portfolio.tables import positions, trades
from servicekit import SettingsError
from tests.support import ROOT

SERVICES = [("gateway", gateway.create_app), ("portfolio", portfolio.create_app)]
Refusal = Callable[[str], SettingsError]


@pytest.fixture(params=SERVICES, ids=lambda service: str(service[0]))
def refusal(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Refusal:
    """Return the error of starting a service on a database."""
    name: str = request.param[0]
    create_app: Callable[[], Flask] = request.param[1]

    def start(url: str) -> SettingsError:
        monkeypatch.setenv("CB_CONFIG", str(ROOT / "config" / "config.yaml"))
        monkeypatch.setenv("CB_STATE_DIR", str(tmp_path / "state"))
        monkeypatch.setenv("CB_STATE__URL", "memory://")
        monkeypatch.setenv(f"CB_SERVICES__{name.upper()}__DATABASE", url)
        with pytest.raises(SettingsError) as caught:
            create_app()
        assert caught.value.key == f"services.{name}.database"
        assert "secret" not in str(caught.value)
        return caught.value

    return start


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://",
        "sqlite:///",
        "sqlite:///:memory:",
        "sqlite:////tmp/a.db?mode=ro",
        "sqlite:///file::memory:?cache=shared",
        "mysql://root:secret@host/db",
        "postgresql+psycopg://user:secret@host:port/db",
        "portfolio.db",
    ],
)
def test_database_url_that_workers_cannot_share_is_refused_without_its_password(refusal: Refusal, url: str) -> None:
    assert refusal(url).rule.startswith("be sqlite:///FILE or postgresql+psycopg://")


def test_invalid_database_file_is_refused_at_the_start(refusal: Refusal, tmp_path: Path) -> None:
    (tmp_path / "not.db").write_text("this is not a database, but it is long enough to be looked at" * 20)

    for url in (f"sqlite:///{tmp_path}/not.db", f"sqlite:///{tmp_path}/not.db/below.db", f"sqlite:///{tmp_path}"):
        assert refusal(url).rule.startswith("be a database that can be opened (")


def test_database_whose_driver_is_missing_is_refused_with_what_to_install(
    refusal: Refusal, monkeypatch: pytest.MonkeyPatch
) -> None:
    if importlib.util.find_spec("psycopg"):
        monkeypatch.setitem(sys.modules, "psycopg", None)

    error = refusal("postgresql+psycopg://user:secret@127.0.0.1:1/db")

    assert "pip install 'psycopg[binary]'" in error.rule


def test_holdings_as_large_as_the_portfolio_allows_are_read_by_the_gateway() -> None:
    answer = {
        "userId": "ann",
        "cash": f"{CASH_LIMIT:f}",
        "positions": [{"symbol": "AAPL", "quantity": 5_000_000_000}],
    }

    holdings = HoldingsSchema().load(answer)

    assert holdings["cash"] == CASH_LIMIT > Decimal(10) ** 10
    assert holdings["positions"] == answer["positions"]


def test_columns_of_shares_have_64_bits() -> None:
    assert all(isinstance(table.c.quantity.type, BigInteger) for table in (positions, trades))
