"""A table of all breakers, updated once a second. Needs the extra `cli`."""

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

from .ledgers import ledger_paths, survey
from .text import HEADINGS, plain, rows

#: Seconds between two updates.
_INTERVAL = 1.0
_STYLES = {State.CLOSED: "green", State.HALF_OPEN: "yellow", State.OPEN: "bold red", State.FORCED_OPEN: "bold red"}


def watch(urls: Sequence[str]) -> None:
    """Show the table until Ctrl-C. Services that start meanwhile are included."""
    interrupts = []
    # Recorded and not raised: an exception raised within a finalizer is lost.
    before = signal.signal(signal.SIGINT, lambda *_: interrupts.append(True))
    try:
        with Live(_render(urls), auto_refresh=False) as live:
            while not interrupts:
                live.update(_render(urls), refresh=True)
                gc.collect()  # a ledger and its records refer to each other and to a mapped file
                shown = monotonic()
                while not interrupts and monotonic() - shown < _INTERVAL:
                    time.sleep(_INTERVAL / 20)
    finally:
        signal.signal(signal.SIGINT, before)


def _render(urls: Sequence[str]) -> Group:
    found = survey(ledger_paths(urls))
    table = Table(*(heading.capitalize() for heading in HEADINGS), box=None)
    for row in rows(found):
        style = _STYLES.get(State(row[2]), "cyan")
        table.add_row(*(Text(plain(cell), style=style if column == 2 else "") for column, cell in enumerate(row)))
    notes = [Text(plain(str(error)), style="red") for error in found.errors]
    if not found.ledgers and not notes:
        notes = [Text("no ledger yet", style="dim")]
    return Group(table, *notes)
