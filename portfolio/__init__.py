"""The portfolio service: what users own, changed by trades."""

from flask import Flask

from cb.database import Database
from cb.web import Faults, create_service, load_settings

from . import problems, views
from .schemas import PortfolioSettings
from .service import Portfolios
from .store import Store


def create_app() -> Flask:
    """Build the service from its settings. Raises SettingsError, ConfigError, DatabaseUnavailable."""
    settings = load_settings("portfolio", PortfolioSettings())
    app = create_service("portfolio-service", settings)
    store = Store(Database(settings.service["database"], connections=settings.threads + 2))
    portfolios = Portfolios(store, settings.service["opening_cash"])
    portfolios.open("user123")
    app.extensions["portfolios"] = portfolios
    app.extensions["faults"] = Faults(app, "portfolio")
    app.extensions["health"].add("database", store.health, ready=True)
    problems.init_app(app)
    app.register_blueprint(views.bp)
    return app
