"""The trading gateway: the entry point for orders, with a breaker before each dependency."""

import sys
from datetime import timedelta
from decimal import Decimal

from flask import Flask

from servicekit import create_service, load_settings
from servicekit.database import Database, DatabaseUnavailableError
from servicekit.migrations import migrate
from servicekit.open_database import opening_database

from .http import problems, views
from .http.reads import Reads
from .http.schemas import GatewaySettings
from .services.alerter import Alarm
from .services.audit import Audit
from .services.audit_log import AuditLog
from .services.audit_verifier import Auditor
from .services.market_data import MarketData, Quote, QuoteSchema
from .services.notification import Notification, databases_differ
from .services.notifications import Inbox
from .services.portfolio import Holdings, HoldingsSchema, Portfolio
from .services.risk import Limits, Risk
from .services.simulated import Services
from .trading import history
from .trading.bookkeeping import Bookkeeping
from .trading.comparison import Comparer
from .trading.comparison_log import ComparisonLog
from .trading.duties import take_up
from .trading.outbox import Journal
from .trading.outbox_relay import Dispatcher
from .trading.reconciler import Reconciler
from .trading.stats import Glances
from .trading.store import Store
from .trading.trading import Trading

SETTINGS = GatewaySettings
#: seconds that placing an order may take beside the portfolio's answer
SLACK = 5


def create_app() -> Flask:
    """Build the service from its settings. Raises SettingsError."""
    # Not above: prometheus_client decides at import, by the environment that gunicorn's conf sets, where values live.
    from .http.collector import Measures

    settings = load_settings("gateway", SETTINGS())
    app = create_service("trading-gateway", settings, __doc__ or "")
    own = settings.service
    with opening_database(settings, DatabaseUnavailableError):
        database = migrate(Database(own["database"], connections=settings.threads + 4), sys.modules[__name__])
    store, journal, log, inbox = Store(database), Journal(database), AuditLog(database), Inbox(database)

    services = Services(app, settings)
    database.guard(services.bulkhead("database"))
    limits = Limits(
        price_band=own["price_band"],
        order_value=own["order_value_limit"],
        position=Decimal(own["position_limit"]),
        daily_volume=own["daily_volume_limit"],
    )
    risk = Risk(services.breaker("risk"), services.simulation("risk"), limits)
    audit = Audit(services.breaker("audit"), services.simulation("audit"), log)
    notification = Notification(services.breaker("notification"), services.simulation("notification"), inbox)
    market_data, portfolio = MarketData(services.client("market-data")), Portfolio(services.client("portfolio"))

    lease, deadline = timedelta(seconds=own["portfolio_timeout"] + SLACK), timedelta(seconds=own["pending_deadline"])
    trading = Trading(
        store, market_data=market_data, risk=risk, portfolio=portfolio, lease=lease, timeout=own["order_timeout"]
    )
    ledger = app.extensions["circuit_breakers"].registry.ledger
    alarm = Alarm(store, ledger, notification, patience=timedelta(seconds=own["alert_after"]), clock=store.now)
    reconciler = Reconciler(store, portfolio, lease=lease, deadline=deadline, clock=store.now)
    dispatcher, auditor = Dispatcher(journal, audit, notification), Auditor(log, store.now)
    comparisons = ComparisonLog(database)
    comparer = Comparer(
        Bookkeeping(database),
        portfolio,
        comparisons,
        lambda each: notification.tell([databases_differ(each)]),
        store.now,
    )
    duties = take_up(
        ledger,
        reconciler=reconciler,
        dispatcher=dispatcher,
        alarm=alarm,
        audit=log,
        auditor=auditor,
        comparer=comparer,
        compare_interval=own["compare_interval"],
    )

    reads = Reads(settings)
    quotes = reads.last_good("quotes", Quote, QuoteSchema())
    holdings = reads.last_good("holdings", Holdings, HoldingsSchema())
    app.extensions["gateway"] = views.Parts(trading, store, market_data, portfolio, quotes, holdings)
    app.extensions["history"] = history.Records(log, inbox, comparisons)
    app.extensions["health"].add("database", store.health, ready=True)
    glances = Glances(store, journal, log, comparisons, store.now)
    app.extensions["metrics"].collectors.append(Measures(glances))
    app.extensions["dashboard"].add("trades", glances.show)
    problems.init_app(app)
    app.register_blueprint(views.bp)
    app.register_blueprint(history.bp)
    services.monitor.start()
    app.extensions["duties"], app.extensions["monitor"] = duties, services.monitor
    return app
