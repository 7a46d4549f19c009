"""The live page: `GET /dashboard`, its files, and the data that it polls."""

from pathlib import Path
from typing import Any

from flask import Blueprint, Response

from cb.integrations.flask import status
from cb.integrations.flask.access import may_operate_without_token
from cb.integrations.flask.extension_state import circuit_breakers
from cb.integrations.flask.panel import Panel
from cb.integrations.flask.static_files import send_content, send_file
from cb.log import Log

log = Log(__name__)

#: entries of the log of state changes, the latest
_EVENTS = 50
_FOLDER = Path(__file__).parent
_PAGE = "page.html"
_SCRIPTS = ("page.js", "cards.js", "controls.js", "elements.js", "panels.js", "rates.js", "token.js")
#: replaced by the names of the panels
_PANELS = b'content="PANELS"'

bp = Blueprint("dashboard", __name__, url_prefix="/dashboard")


@bp.get("")
def page() -> Response:
    """Show the live page."""
    names = " ".join(panel.name for panel in circuit_breakers().panels)
    content = (_FOLDER / _PAGE).read_bytes().replace(_PANELS, f'content="{names}"'.encode())
    return send_content(content, ".html")


@bp.get("/<name>")
def file(name: str) -> Response:
    """Send a file of the live page."""
    return page() if name == _PAGE else send_file(page_files(circuit_breakers().panels), name)


@bp.get("/data")
def data() -> dict[str, Any]:
    """Return the data of the live page: the status, the health of the dependencies, events, and the panels' data."""
    state = circuit_breakers()
    return {
        **{panel.name: _data_of(panel) for panel in state.panels},
        **status.report(),
        "health": status.dependencies(),
        "events": [each.as_log_entry() for each in state.registry.ledger.history()[-_EVENTS:]],
        # If the operators have a token, the page asks for it before it shows controls.
        "operator": may_operate_without_token(),
    }


def page_files(panels: list[Panel]) -> dict[str, Path]:
    """Return the files of the live page by name."""
    own = {name: _FOLDER / name for name in (_PAGE, "page.css", *_SCRIPTS)}
    return own | {name: panel.script for panel in panels if (name := f"{panel.name}.js") not in own}


def _data_of(panel: Panel) -> dict[str, Any]:
    try:
        return dict(panel.data())
    except Exception as error:  # the breakers are shown all the same
        log.exception("panel %r of the live page has no data", panel.name)
        return {"unavailable": type(error).__name__}
