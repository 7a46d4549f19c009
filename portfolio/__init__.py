"""The portfolio service: accounts of users, changed by trades.

It books any symbol: its only client, the gateway, checks that the symbol is quoted.
"""

import sys

from flask import Flask

from cb import Bulkhead
from servicekit import Faults, create_service, load_settings
from servicekit.database import Database, opening_database
from servicekit.migrations import migrate

from . import history, problems, views
from .schemas import PortfolioSettings
from .service import PortfolioService
from .store import AccountStore

SETTINGS = PortfolioSettings


def create_app() -> Flask:
    """Create the service from its settings. Raises SettingsError."""
    settings = load_settings("portfolio", SETTINGS())
    app = create_service("portfolio-service", settings, __doc__ or "")
    own = settings.service
    with opening_database(settings):
        database = migrate(Database(own["database"], connections=settings.threads + 2), sys.modules[__name__])
        store = AccountStore(database)
        portfolios = PortfolioService(store, own["opening_cash"])
        portfolios.open("user123")
    breaker = app.extensions["circuit_breakers"].registry.get("database")
    database.guard(Bulkhead(breaker, settings.bulkhead_limits("database")["database"], own["limit_wait"]))
    app.extensions["portfolios"] = portfolios
    faults = app.extensions["faults"] = Faults(app, "portfolio")
    app.extensions["health"].add("simulation", faults.check, ready=True)
    app.extensions["health"].add("database", store.health, ready=True)
    problems.init_app(app)
    app.register_blueprint(views.bp)
    app.register_blueprint(history.bp)
    return app
