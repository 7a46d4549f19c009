"""The routes of the extension, below one prefix."""

import posixpath
from http import HTTPStatus
from typing import Any, NamedTuple, Self

from flask import Blueprint, Flask, Response, current_app, request

from cb.integrations.operations import commands, documents
from cb.integrations.operations.access import may_read
from cb.integrations.operations.page import PAGE, page_content, page_files
from cb.integrations.operations.settings import DEFAULT_PREFIX, check_path

from .current import CURRENT, circuit_breakers, read_body, request_id, require_operator, require_reader
from .own_routes import BLUEPRINT
from .responses import add_security_headers, send_content, send_file, with_policy


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
            if path is not None:
                check_path(field, path)
        api = (DEFAULT_PREFIX if prefix is None else prefix).rstrip("/")
        shown = page_url or f"{api}/"
        roots = (api, shown.rstrip("/"))
        return cls(api=api, page=shown, given=() if prefix is None or not all(roots) else roots)


def add_routes(app: Flask, paths: Paths) -> None:
    """Add the routes to an app, as one blueprint, so that the app may use the names of its parts."""
    routes = Blueprint(BLUEPRINT, __name__)
    for each, path in ((_status(), paths.api), (_operator(), paths.api), (_page(), paths.page)):
        routes.register_blueprint(each, url_prefix=path)
    routes.url_value_preprocessor(_exempt_from_csrf)  # it runs before the hooks that run before a request
    routes.after_request(add_security_headers)
    app.register_blueprint(routes)


def _exempt_from_csrf(endpoint: str | None, _: object) -> None:
    """Exempt the routes from Flask-WTF's CSRFProtect: forms of other sites can send neither a token nor JSON."""
    exempt = getattr(current_app.extensions.get("csrf"), "exempt", None)
    if exempt is not None and endpoint is not None:
        exempt(current_app.view_functions[endpoint])


def _status() -> Blueprint:
    bp = Blueprint("circuit-breaker", __name__)

    @bp.get("/status")
    def status() -> dict[str, Any]:
        """Return the state of all breakers, the same from any worker."""
        require_reader()
        return documents.status(circuit_breakers())

    return bp


def _operator() -> Blueprint:
    bp = Blueprint("operator", __name__)
    for action in commands.ACTIONS:
        _add_command(bp, action)

    @bp.get("/events")
    def events() -> dict[str, Any]:
        """List the latest state changes, oldest first."""
        require_reader()
        return commands.events(circuit_breakers().registry, CURRENT)

    return bp


def _add_command(bp: Blueprint, action: str) -> None:
    """Add the routes of a command, for a breaker named in the path and for one named in the query."""

    def run(name: str, *, in_path: bool) -> dict[str, Any]:
        return commands.run_command(
            circuit_breakers().registry, action, name, CURRENT, read_body(), request_id=request_id(), in_path=in_path
        )

    def by_path(name: str) -> dict[str, Any]:
        require_operator()
        return run(name, in_path=True)

    def by_query() -> dict[str, Any]:
        require_operator()
        return run(commands.read_name(CURRENT), in_path=False)

    verb = action.replace("-o", "O")
    bp.add_url_rule(f"/<path:name>/{action}", f"{verb}Breaker", by_path, methods=["POST"])
    bp.add_url_rule(f"/{action}", f"{verb}NamedBreaker", by_query, methods=["POST"])


def _page() -> Blueprint:
    bp = Blueprint("dashboard", __name__)

    @bp.get("")
    def page() -> Response:
        """Show the live page, which asks for the token if it is sent with 403. Raises Problem."""
        if may_read(circuit_breakers(), CURRENT):
            return send_content(_page_content(), ".html")
        # Browsers send no token with it.
        if circuit_breakers().token is None or "text/html" not in request.headers.get("Accept", ""):
            require_reader()
        response = with_policy(_page_content(), ".html")
        response.status_code = HTTPStatus.FORBIDDEN
        return response

    @bp.get("/<name>")
    def file(name: str) -> Response:
        """Send a file of the live page. A page that asks for the token needs its files. Raises Problem."""
        if name == PAGE:
            return page()
        if circuit_breakers().token is None:
            require_reader()
        return send_file(page_files(circuit_breakers().panels), name)

    @bp.get("/data")
    def data() -> dict[str, Any]:
        """Return the data of the live page."""
        require_reader()
        return documents.page_data(circuit_breakers(), CURRENT)

    return bp


def _page_content() -> bytes:
    here = posixpath.dirname(str(request.url_rule))
    linked = []
    for endpoint in ("dashboard.file", "circuit-breaker.status"):
        (rule,) = current_app.url_map.iter_rules(f"{BLUEPRINT}.{endpoint}")
        linked.append(posixpath.relpath(posixpath.dirname(rule.rule), here))
    return page_content(circuit_breakers().panels, *linked)
