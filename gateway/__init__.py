"""The trading gateway: the entry point for orders, with a breaker before each dependency."""

from typing import Any

from flask import Flask
from marshmallow import Schema

from cb import Bulkhead, BulkheadFullError, CircuitOpenError, Monitor
from cb.database import Database, DatabaseUnavailable
from cb.http import HTTPClient
from cb.resilience import StaleCache, open_store
from cb.web import Faults, create_service, forwarded_headers, limits, load_settings
from cb.web.databases import opening_database

from . import problems, views
from .audit import Audit
from .errors import Unavailable
from .health import readiness
from .market_data import MarketData, Quote, QuoteSchema
from .notification import Notification
from .portfolio import Holdings, HoldingsSchema, Portfolio
from .risk import Risk
from .schemas import GatewaySettings
from .store import Store
from .trading import Trading

SETTINGS = GatewaySettings
_PLAIN_SERVERS = ("redis://", "rediss://", "unix://")


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

    monitor = app.extensions["monitor"] = Monitor()

    def client(name: str) -> HTTPClient:
        key = name.replace("-", "_")
        url = own[f"{key}_url"] or f"http://{settings.host}:{load_settings(name).port}"
        made = HTTPClient(url, own[f"{key}_timeout"], bulkhead(name), headers=forwarded_headers)
        monitor.add(breaker(name), readiness(name, made), interval=own["health_interval"])
        return made

    def faults(name: str) -> Faults:
        return Faults(app, name, f"/api/v1/{name}")

    # A server that all hosts share has the last good answers of all; sentinels and clusters are for breakers only.
    shared = settings.fleet_url if (settings.fleet_url or "").startswith(_PLAIN_SERVERS) else None
    answers = open_store(shared or f"file://{settings.state_dir / 'gateway.answers'}", name="trading-gateway")

    def last_good(name: str, kind: type[Any], schema: Schema) -> StaleCache[Any]:
        return StaleCache(
            name,
            answers,
            usable_for=own["stale_usable_for"],
            fresh_for=own["stale_fresh_for"],
            errors=(CircuitOpenError, BulkheadFullError, Unavailable),
            dump=lambda value: schema.dumps(value).encode(),
            load=lambda data: kind(**schema.loads(data)),
        )

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
    app.extensions["gateway"] = views.Parts(
        trading,
        market_data,
        portfolio,
        quotes=last_good("quotes", Quote, QuoteSchema()),
        holdings=last_good("holdings", Holdings, HoldingsSchema()),
    )
    app.extensions["health"].add("database", store.health, ready=True)
    problems.init_app(app)
    app.register_blueprint(views.bp)
    monitor.start()
    return app
