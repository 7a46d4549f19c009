"""A table of all breakers that follows them, once a second. Needs the extra `cli`."""

import gc
import signal
import time
from collections.abc import Sequence

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from cb.clocks import monotonic
from cb.states import State

from .ledgers import places, survey
from .text import HEADINGS, plain, rows

_INTERVAL = 1.0  # seconds
_STYLES = {State.CLOSED: "green", State.HALF_OPEN: "yellow", State.OPEN: "bold red", State.FORCED_OPEN: "bold red"}


def watch(urls: Sequence[str]) -> None:
    """Show the table until Ctrl-C. A service that starts meanwhile comes in."""
    asked = []
    # Noted and not raised: an exception that comes within a finalizer is lost.
    before = signal.signal(signal.SIGINT, lambda *_: asked.append(True))
    try:
        with Live(_picture(urls), auto_refresh=False) as live:
            while not asked:
                live.update(_picture(urls), refresh=True)
                gc.collect()  # a ledger and its rows hold each other, and the map of a whole file
                shown = monotonic()
                while not asked and monotonic() - shown < _INTERVAL:
                    time.sleep(_INTERVAL / 20)
    finally:
        signal.signal(signal.SIGINT, before)


def _picture(urls: Sequence[str]) -> Group:
    found = survey(places(urls))
    table = Table(*(heading.capitalize() for heading in HEADINGS), box=None)
    for row in rows(found):
        style = _STYLES.get(State(row[2]), "cyan")
        table.add_row(*(Text(plain(cell), style=style if column == 2 else "") for column, cell in enumerate(row)))
    notes = [Text(plain(str(error)), style="red") for error in found.errors]
    if not found.ledgers and not notes:
        notes = [Text("no ledger yet", style="dim")]
    return Group(table, *notes)
