"""A blog in the shape of microblog, of Miguel Grinberg's Flask Mega-Tutorial: a factory, extensions, blueprints."""

import os

from flask import Flask

from cb.integrations.flask import CircuitBreakers  # guard

breakers = CircuitBreakers()  # guard


def create_app():
    app = Flask(__name__)
    app.config["TRANSLATOR_URL"] = os.environ["VENDOR_URL"]
    app.config["CB_DEFAULTS"] = {"failure_threshold": 5, "timeout": "2s", "success_threshold": 1}  # guard
    breakers.init_app(app)  # guard
    app.translator = breakers.session("translator", timeout=2)  # guard

    from app.main import bp

    app.register_blueprint(bp)
    return app
