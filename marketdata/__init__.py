"""The market data service: prices of a simulated market."""

from flask import Flask

from servicekit import Faults, create_service, load_settings

from . import views
from .market import Market
from .schemas import MarketDataSettings

SETTINGS = MarketDataSettings


def create_app() -> Flask:
    """Create the service from its settings. Raises SettingsError."""
    settings = load_settings("market-data", SETTINGS())
    app = create_service("market-data-service", settings, __doc__ or "")
    app.extensions["market"] = Market(settings.service["seed"])
    faults = app.extensions["faults"] = Faults(app, name="market-data", url_prefix="/api/v1")
    app.extensions["health"].add("simulation", faults.check, ready=True)
    app.register_blueprint(views.bp)
    return app
