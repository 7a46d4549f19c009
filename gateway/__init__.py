"""The trading gateway: the entry point for orders, with a breaker in front of each dependency."""

import sys
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

from flask import Flask

from cb.integrations.flask import Panel
from servicekit import create_service, load_settings
from servicekit.database import Database, opening_database
from servicekit.migrations import migrate

from .http import history, problems, views
from .http.schemas import GatewaySettings
from .http.stale_reads import StaleReads
from .services.alerter import Alerter
from .services.audit import AuditService
from .services.audit_log import AuditLog
from .services.audit_verifier import AuditVerifier
from .services.dependencies import Dependencies
from .services.market_data import MarketDataClient, Quote, QuoteSchema
from .services.notification import NotificationService, databases_differ
from .services.notifications import Notifications
from .services.portfolio import Holdings, HoldingsSchema, PortfolioClient
from .services.risk import RiskLimits, RiskService
from .trading.background import start_background_tasks
from .trading.comparer import Comparer
from .trading.comparison_log import ComparisonLog
from .trading.outbox import Outbox
from .trading.outbox_relay import OutboxRelay
from .trading.reconciler import Reconciler
from .trading.stats import TradeStatsReader
from .trading.store import TradeStore
from .trading.stored_trades import StoredTrades
from .trading.trading import Trading

SETTINGS = GatewaySettings
#: seconds that placing an order may take in addition to the portfolio's timeout
SLACK = 5

#: the panel of the live page
_PANEL = Path(__file__).parent / "http" / "static" / "trades.js"


def create_app() -> Flask:
    """Create the service from its settings. Raises SettingsError."""
    # Not above: prometheus_client reads at import the environment that gunicorn's configuration sets.
    from .http.collector import TradeStatsCollector

    settings = load_settings("gateway", SETTINGS())
    app = create_service("trading-gateway", settings, __doc__ or "")
    own = settings.service
    with opening_database(settings):
        database = migrate(Database(own["database"], connections=settings.threads + 4), sys.modules[__name__])
    store, outbox, audit_log = TradeStore(database), Outbox(database), AuditLog(database)
    notifications, comparisons = Notifications(database), ComparisonLog(database)

    dependencies = Dependencies(app, settings)
    breaker, simulation = dependencies.breaker, dependencies.simulation
    database.guard(dependencies.bulkhead("database"))
    limits = RiskLimits(
        price_band=own["price_band"],
        order_value=own["order_value_limit"],
        position=Decimal(own["position_limit"]),
        daily_volume=own["daily_volume_limit"],
    )
    risk = RiskService(breaker("risk"), simulation("risk"), limits)
    audit = AuditService(breaker("audit"), simulation("audit"), audit_log)
    notification = NotificationService(breaker("notification"), simulation("notification"), notifications)
    market_data = MarketDataClient(dependencies.client("market-data"))
    portfolio = PortfolioClient(dependencies.client("portfolio"))

    lease, deadline = timedelta(seconds=own["portfolio_timeout"] + SLACK), timedelta(seconds=own["pending_deadline"])
    trading = Trading(
        store, market_data=market_data, risk=risk, portfolio=portfolio, lease=lease, timeout=own["order_timeout"]
    )
    ledger = app.extensions["circuit_breakers"].registry.ledger
    pending_after = timedelta(seconds=own["alert_after"])
    app.extensions["background"] = start_background_tasks(
        ledger,
        reconciler=Reconciler(store, portfolio, lease=lease, deadline=deadline, clock=store.now),
        relay=OutboxRelay(outbox, audit, notification),
        alerter=Alerter(store, ledger, notification, pending_after=pending_after, clock=store.now),
        audit=audit_log,
        verifier=AuditVerifier(audit_log, store.now),
        comparer=Comparer(
            StoredTrades(database),
            portfolio,
            comparisons,
            lambda result: notification.send([databases_differ(result)]),
            store.now,
        ),
        compare_interval=own["compare_interval"],
    )

    reads = StaleReads(settings)
    quotes = reads.cache("quotes", Quote, QuoteSchema())
    holdings = reads.cache("holdings", Holdings, HoldingsSchema())
    app.extensions["gateway"] = views.ViewContext(trading, store, market_data, portfolio, quotes, holdings)
    app.extensions["history"] = history.HistoryContext(audit_log, notifications, comparisons)
    app.extensions["health"].add("database", store.health, ready=True)
    stats = TradeStatsReader(store, outbox, audit_log, comparisons, store.now)
    app.extensions["metrics"].collectors.append(TradeStatsCollector(stats))
    app.extensions["circuit_breakers"].panels.insert(0, Panel("trades", _PANEL, stats.panel))
    problems.init_app(app)
    app.register_blueprint(views.bp)
    app.register_blueprint(history.bp)
    dependencies.monitor.start()
    app.extensions["monitor"] = dependencies.monitor
    return app
