"""The trading gateway: the entry point for orders, with a breaker before each dependency."""

from flask import Flask

from cb import Bulkhead
from cb.database import Database, DatabaseUnavailable
from cb.http import HTTPClient
from cb.web import Faults, create_service, forwarded_headers, limits, load_settings
from cb.web.databases import opening_database

from . import problems, views
from .audit import Audit
from .market_data import MarketData
from .notification import Notification
from .portfolio import Portfolio
from .risk import Risk
from .schemas import GatewaySettings
from .stale import LastGood
from .store import Store
from .trading import Trading

SETTINGS = GatewaySettings


def create_app() -> Flask:
    """Build the service from its settings. Raises SettingsError."""
    settings = load_settings("gateway", SETTINGS())
    app = create_service("trading-gateway", settings)
    breaker = app.extensions["circuit_breakers"].registry.get
    own = settings.service
    limit = limits(settings, "market-data", "portfolio", "database")

    def bulkhead(name: str) -> Bulkhead:
        return Bulkhead(breaker(name), limit[name], own["limit_wait"])

    with opening_database(settings, DatabaseUnavailable):
        database = Database(own["database"], connections=settings.threads + 2)
        store = Store(database)
    database.guard(bulkhead("database"))

    def client(name: str) -> HTTPClient:
        key = name.replace("-", "_")
        url = own[f"{key}_url"] or f"http://{settings.host}:{load_settings(name).port}"
        return HTTPClient(url, own[f"{key}_timeout"], bulkhead(name), headers=forwarded_headers)

    def faults(name: str) -> Faults:
        return Faults(app, name, f"/api/v1/{name}")

    market_data = MarketData(client("market-data"))
    portfolio = Portfolio(client("portfolio"))
    trading = Trading(
        store,
        market_data=market_data,
        risk=Risk(breaker("risk"), faults("risk").apply, own["price_band"]),
        portfolio=portfolio,
        notification=Notification(breaker("notification"), faults("notification").apply),
        audit=Audit(breaker("audit"), faults("audit").apply, store),
    )
    app.extensions["gateway"] = views.Parts(trading, market_data, portfolio, LastGood(), LastGood())
    app.extensions["health"].add("database", store.health, ready=True)
    problems.init_app(app)
    app.register_blueprint(views.bp)
    return app
