"""Output of the walk-through: lines of text and, on a terminal, a live table of the breakers."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import requests
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from .client import Client, TradeResponse

COLOURS = {"CLOSED": "green", "OPEN": "red", "HALF_OPEN": "yellow"}


class Screen:
    """Prints to a terminal, or to a file without the live table."""

    def __init__(self, client: Client) -> None:
        self.console = Console(highlight=False)
        self._client = client
        self._wait: tuple[float, float] | None = None  # start and end

    @contextmanager
    def phase(self, title: str, description: str) -> Iterator[None]:
        """Print the title, the description and, at the end, the breakers; on a terminal they are live meanwhile."""
        self.console.print()
        self.console.rule(f"[bold]{title}", align="left")
        self.console.print(description)
        if self.console.is_terminal:
            with Live(get_renderable=self._now, console=self.console, refresh_per_second=5, transient=True):
                yield
        else:
            yield
        self.console.print(self._breakers())

    def trade(self, number: int, response: TradeResponse) -> None:
        """Print the response to a trade. On a terminal, pause so that it can be read."""
        if response.filled:
            text = f"[green]{response.status} filled[/]"
        elif response.rejected:
            text = f"[yellow]{response.status} rejected by the open circuit, Retry-After {response.retry_after} s[/]"
        else:
            text = f"[red]{response.status} {response.body.get('code', '')}[/]"
        self.console.print(f"  trade {number:>2}  {response.seconds * 1000:7.1f} ms  {text}")
        if self.console.is_terminal:
            time.sleep(0.3)

    def wait(self, seconds: float, reason: str) -> None:
        """Wait, with a progress bar on a terminal."""
        self.console.print(f"  {reason}: {seconds:.0f} s")
        self._wait = (time.monotonic(), time.monotonic() + seconds)
        time.sleep(seconds)
        self._wait = None

    def result(self, passed: bool, text: str) -> None:
        """Print the result of a phase."""
        mark = "[bold green]ok[/]" if passed else "[bold red]NOT AS EXPECTED[/]"
        self.console.print(f"  {mark}  {text}", soft_wrap=True)

    def _now(self) -> RenderableType:
        if self._wait is None:
            return self._breakers()
        begin, end = self._wait
        left = max(end - time.monotonic(), 0)
        bar = ProgressBar(total=end - begin, completed=time.monotonic() - begin, width=40)
        return Group(self._breakers(), bar, Text(f"{left:.0f} s left"))

    def _breakers(self) -> RenderableType:
        try:
            breakers = self._client.breakers()
        except (requests.RequestException, KeyError) as error:
            return Text(f"the status of the breakers is not available: {error}")
        table = Table(box=None, padding=(0, 2), pad_edge=True)
        for heading in ("breaker", "state", "calls in window", "failed", "rejected in total"):
            table.add_column(heading, no_wrap=True)
        for name, breaker in sorted(breakers.items()):
            table.add_row(name, *_cells(breaker))
        return table


def _cells(breaker: dict[str, Any]) -> tuple[str, ...]:
    state, window = breaker["state"], breaker["window"]
    return (
        f"[{COLOURS.get(state, 'cyan')}]{state}[/]",
        str(window["requests"]),
        str(window["failures"]),
        str(breaker["totals"]["rejected"]),
    )


def confirm(question: str) -> bool:
    """Return True if the user at the terminal agrees; Enter means yes. Return False without a terminal."""
    if sys.stdin is None or not (sys.stdin.isatty() and sys.stdout.isatty()):
        return False
    try:
        return input(f"\n{question} [Y/n] ").strip().lower() in ("", "y", "yes")
    except EOFError:
        return False
