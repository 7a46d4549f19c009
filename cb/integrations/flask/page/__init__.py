"""The live page: `GET /circuit-breakers/`, its files, and the data that it polls."""

import posixpath
from http import HTTPStatus
from pathlib import Path
from typing import Any

from flask import Blueprint, Response, current_app, request

from cb.integrations.flask import status
from cb.integrations.flask.access import may_operate, may_read, require_reader
from cb.integrations.flask.extension_state import circuit_breakers
from cb.integrations.flask.own_routes import BLUEPRINT
from cb.integrations.flask.panel import Panel
from cb.integrations.flask.static_files import send_content, send_file, with_policy
from cb.log import Log

log = Log(__name__)

#: entries of the log of state changes, the latest
_EVENTS = 50
_FOLDER = Path(__file__).parent
_PAGE = "page.html"
_SCRIPTS = ("page.js", "cards.js", "controls.js", "elements.js", "panels.js", "rates.js", "token.js")
#: replaced in the page: the names of the panels, and the directories of its files and of the other routes
_PANELS, _FILES, _API = b'content="PANELS"', b"FILES", b"API"

bp = Blueprint("dashboard", __name__)


@bp.get("")
def page() -> Response:
    """Show the live page. Browsers send no token with it: without access it is sent with 403, and asks for the token.

    Raises Problem.
    """
    if may_read():
        return send_content(_content(), ".html")
    if circuit_breakers().token is None or "text/html" not in request.headers.get("Accept", ""):
        require_reader()
    response = with_policy(_content(), ".html")
    response.status_code = HTTPStatus.FORBIDDEN
    return response


@bp.get("/<name>")
def file(name: str) -> Response:
    """Send a file of the live page. A page that asks for the token needs its files. Raises Problem."""
    if name == _PAGE:
        return page()
    if circuit_breakers().token is None:
        require_reader()
    return send_file(page_files(circuit_breakers().panels), name)


@bp.get("/data")
def data() -> dict[str, Any]:
    """Return the data of the live page: the status, the health of the dependencies, events, and the panels' data."""
    require_reader()
    state = circuit_breakers()
    return {
        **{panel.name: _data_of(panel) for panel in state.panels},
        **status.report(),
        "health": status.dependencies(),
        "events": [each.as_log_entry() for each in state.registry.ledger.history()[-_EVENTS:]],
        # If the operators have a token, the page asks for it before it shows controls.
        "operator": may_operate(),
    }


def page_files(panels: list[Panel]) -> dict[str, Path]:
    """Return the files of the live page by name."""
    own = {name: _FOLDER / name for name in (_PAGE, "page.css", *_SCRIPTS)}
    return own | {name: panel.script for panel in panels if (name := f"{panel.name}.js") not in own}


def _content() -> bytes:
    """Return the page. Its links are relative: a proxy may serve it below a prefix that this app does not know."""
    names = " ".join(panel.name for panel in circuit_breakers().panels)
    content = (_FOLDER / _PAGE).read_bytes().replace(_PANELS, f'content="{names}"'.encode())
    here = posixpath.dirname(str(request.url_rule))
    for mark, endpoint in ((_FILES, "dashboard.file"), (_API, "circuit-breaker.status")):
        (rule,) = current_app.url_map.iter_rules(f"{BLUEPRINT}.{endpoint}")
        content = content.replace(mark, posixpath.relpath(posixpath.dirname(rule.rule), here).encode())
    return content


def _data_of(panel: Panel) -> dict[str, Any]:
    try:
        return dict(panel.data())
    except Exception as error:  # the breakers are shown all the same
        log.exception("panel %r of the live page has no data", panel.name)
        return {"unavailable": type(error).__name__}
