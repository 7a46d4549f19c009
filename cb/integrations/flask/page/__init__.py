"""The live page: `/dashboard`, and what it polls."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flask import Blueprint, Response, current_app

from cb.document import record
from cb.integrations.flask import status
from cb.integrations.flask.extension_state import circuit_breakers
from cb.log import Log
from servicekit import access, health
from servicekit.openapi import ResponseSpec, operation
from servicekit.static_files import TYPES, Files

from .schema import DataSchema

if TYPE_CHECKING:
    from servicekit.faults import Faults

log = Log(__name__)

#: of the log of transitions, the latest
_EVENTS = 50
_SCRIPTS = ("page.js", "cards.js", "controls.js", "elements.js", "panels.js", "rates.js", "token.js")
_FILES = Files(Path(__file__).parent, ("page.html", "page.css", *_SCRIPTS))

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


@bp.get("")
@operation("showDashboard", tag="dashboard", responses={200: ResponseSpec("The page.", types=("text/html",))})
def page() -> Response:
    """Show the live page."""
    return _FILES.send("page.html")


@bp.get("/<name>")
@operation(
    "readDashboardFile",
    tag="dashboard",
    path={"name": _FILES.field},
    responses={200: ResponseSpec("The file.", types=TYPES)},
)
def file(name: str) -> Response:
    """Read a file that the live page needs."""
    return _FILES.send(name)


@bp.get("/data")
@operation("readDashboardData", tag="dashboard", responses={200: ResponseSpec("What is so now.", DataSchema())})
def data() -> dict[str, Any]:
    """Read what the live page shows.

    The status of the breakers, what else is known without asking anybody, and what the service adds, such as `trades`.
    """
    shown: Dashboard = current_app.extensions["dashboard"]
    return {
        **status.report(),
        "health": health.known(),
        "events": [record(each) for each in circuit_breakers().registry.ledger.history()[-_EVENTS:]],
        "simulators": {name: {"path": each.path, **asdict(each.read())} for name, each in shown.simulators.items()},
        # Where operators have a token, the page asks for it before it offers to steer.
        "operator": access.may_operate_without_token(),
        **{name: _ask(name, provider) for name, provider in shown.providers.items()},
    }


def _ask(name: str, provider: Provider) -> dict[str, Any]:
    try:
        return dict(provider())
    except Exception as error:  # the breakers are seen all the same
        log.exception("provider %r of the dashboard failed", name)
        return {"unavailable": type(error).__name__}
