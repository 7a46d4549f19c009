"""The routes of the extension, below one prefix."""

import re
from typing import NamedTuple, Self

from flask import Blueprint, Flask, current_app

from cb.errors import ConfigError

from . import operator, page, status
from .own_routes import BLUEPRINT
from .security_headers import add_security_headers

DEFAULT_PREFIX = "/circuit-breakers"
_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)*/?", re.ASCII)


class Paths(NamedTuple):  # imported several times as fast as a dataclass
    """The paths of the routes."""

    #: prefix of the status, the events and the operators' routes
    api: str
    #: path of the page
    page: str
    #: those of both, without slashes at their ends, if the app has given the prefix
    given: tuple[str, ...]

    @classmethod
    def of(cls, prefix: str | None, page_url: str | None) -> Self:
        """Return the paths for the arguments of the extension. Raises ConfigError."""
        for field, path in (("url_prefix", prefix), ("page_url", page_url)):
            if path is not None and not (isinstance(path, str) and _PATH.fullmatch(path)):
                raise ConfigError(field, f"be a path such as {DEFAULT_PREFIX}", path)
        api = (DEFAULT_PREFIX if prefix is None else prefix).rstrip("/")
        shown = page_url or f"{api}/"
        roots = (api, shown.rstrip("/"))
        return cls(api=api, page=shown, given=() if prefix is None or not all(roots) else roots)


def add_routes(app: Flask, paths: Paths) -> None:
    """Add the routes to an app, as one blueprint, so that the app may use the names of its parts."""
    routes = Blueprint(BLUEPRINT, __name__)
    for each, path in ((status.bp, paths.api), (operator.bp, paths.api), (page.bp, paths.page)):
        routes.register_blueprint(each, url_prefix=path)
    routes.url_value_preprocessor(_exempt_from_csrf)  # it runs before the hooks that run before a request
    routes.after_request(add_security_headers)
    app.register_blueprint(routes)


def _exempt_from_csrf(endpoint: str | None, _: object) -> None:
    """Exempt the routes from Flask-WTF's CSRFProtect: forms of other sites can send neither a token nor JSON."""
    exempt = getattr(current_app.extensions.get("csrf"), "exempt", None)
    if exempt is not None and endpoint is not None:
        exempt(current_app.view_functions[endpoint])
