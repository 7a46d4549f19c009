"""The live page: `/dashboard`, and what it polls."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flask import Blueprint, Flask, Response, current_app, request
from werkzeug.exceptions import NotFound

from cb.document import record
from cb.web import health, status
from cb.web.extension import circuit_breakers

if TYPE_CHECKING:
    from cb.web.faults import Faults

log = logging.getLogger(__name__)

#: of the log of transitions, the latest
_EVENTS = 50
_DIRECTORY = Path(__file__).parent
_SCRIPTS = ("page.js", "cards.js", "controls.js", "elements.js", "panels.js", "rates.js", "token.js")
_FILES = {"page.html": "text/html", "page.css": "text/css", **dict.fromkeys(_SCRIPTS, "text/javascript")}
#: nothing inline, nothing from elsewhere, no frame around it
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)

bp = Blueprint("dashboard", __name__, url_prefix="/dashboard")

#: returns what JSON can say, within milliseconds, and asks no other service
Provider = Callable[[], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Dashboard:
    """What a service shows on its page beside its breakers."""

    simulators: "dict[str, Faults]" = field(default_factory=dict)
    providers: dict[str, Provider] = field(default_factory=dict)

    def add(self, name: str, provider: Provider) -> None:
        """Show what a function returns at each poll. The page has a place for `trades`."""
        self.providers[name] = provider


def init_app(app: Flask) -> None:
    """Give an app its page."""
    app.extensions["dashboard"] = Dashboard()
    app.register_blueprint(bp)


@bp.get("")
def page() -> Response:
    return _send("page.html")


@bp.get("/<name>")
def file(name: str) -> Response:
    return _send(name)


@bp.get("/data")
def data() -> dict[str, Any]:
    shown: Dashboard = current_app.extensions["dashboard"]
    return {
        **status.report(),
        "health": health.known(),
        "events": [record(each) for each in circuit_breakers().registry.ledger.history()[-_EVENTS:]],
        "simulators": {name: {"path": each.path, **asdict(each.read())} for name, each in shown.simulators.items()},
        # Where operators have a token, the page asks for it before it offers to steer.
        "operator": current_app.extensions["settings"].admin_token is None,
        **{name: _ask(name, provider) for name, provider in shown.providers.items()},
    }


def _ask(name: str, provider: Provider) -> dict[str, Any]:
    try:
        return dict(provider())
    except Exception as error:  # the breakers are seen all the same
        log.exception("provider %r of the dashboard failed", name)
        return {"unavailable": type(error).__name__}


def _send(name: str) -> Response:
    """Return a file, which browsers keep and ask for again by its hash."""
    if name not in _FILES:
        raise NotFound
    response = Response(_read(name), content_type=f"{_FILES[name]}; charset=utf-8")
    response.headers["Content-Security-Policy"] = _POLICY
    response.headers["Cache-Control"] = "no-cache"
    response.add_etag()
    response.make_conditional(request)
    return response


@cache
def _read(name: str) -> bytes:
    return (_DIRECTORY / name).read_bytes()
