"""A table of all breakers, updated once a second. Needs the extra `cli`."""

import gc
import signal
from collections.abc import Sequence
from types import FrameType

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from cb.clocks import monotonic
from cb.states import State

from .keyboard import Keyboard
from .ledgers import ledger_paths, survey
from .text import HEADINGS, RETIRED, plain, retirement, rows

#: Seconds between two updates.
_INTERVAL = 1.0
_STYLES = {
    State.CLOSED.value: "green",
    State.HALF_OPEN.value: "yellow",
    State.OPEN.value: "bold red",
    State.FORCED_OPEN.value: "bold red",
    RETIRED: "dim",
}
#: keys that end it: q, and Ctrl-D
_QUIT = {"q", "Q", "\x04"}
_ENDS = ("SIGINT", "SIGTERM", "SIGHUP")


def watch(urls: Sequence[str]) -> None:
    """Show the table until q or Ctrl-C. Services that start meanwhile are included."""
    ends: list[int] = []
    resumed: list[int] = []

    def end(number: int, _: FrameType | None) -> None:
        ends.append(number)

    def resume(number: int, _: FrameType | None) -> None:
        resumed.append(number)

    # Recorded and not raised: an exception raised within a finalizer is lost. SIGCONT follows a Ctrl-Z, after which the
    # shell has set the terminal as it likes.
    handlers = {**dict.fromkeys(_ENDS, end), "SIGCONT": resume}
    numbers = {getattr(signal, name): handler for name, handler in handlers.items() if hasattr(signal, name)}
    before = {number: signal.signal(number, handler) for number, handler in numbers.items()}
    try:
        with Keyboard() as keyboard, Live(_render(urls), auto_refresh=False) as live:
            while not ends:
                live.update(_render(urls), refresh=True)
                gc.collect()  # a ledger and its records refer to each other and to a mapped file
                shown = monotonic()
                while not ends and monotonic() - shown < _INTERVAL:
                    if resumed:
                        resumed.clear()
                        keyboard.use()
                    if _QUIT.intersection(keyboard.read(_INTERVAL / 20)):
                        return
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _render(urls: Sequence[str]) -> Group:
    found = survey(ledger_paths(urls))
    table = Table(*(heading.capitalize() for heading in HEADINGS), box=None)
    for row in rows(found):
        style = _STYLES.get(row[2], "cyan")
        table.add_row(*(Text(plain(cell), style=style if column == 2 else "") for column, cell in enumerate(row)))
    notes = [Text(plain(str(error)), style="red") for error in found.errors]
    if not found.ledgers and not notes:
        notes = [Text("no ledger yet", style="dim")]
    notes += [Text(plain(retirement(each)), style="dim") for each in found.retired]
    return Group(table, *notes, Text("q or Ctrl-C ends", style="dim"))
