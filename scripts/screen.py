"""What the walk-through shows: lines that stay, and below them, on a terminal, the breakers as they are now."""

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

from .client import Answer, Client

COLOURS = {"CLOSED": "green", "OPEN": "red", "HALF_OPEN": "yellow"}


class Screen:
    """Prints to a terminal, or to a file, where nothing moves."""

    def __init__(self, client: Client) -> None:
        self.console = Console(highlight=False)
        self._client = client
        self._wait: tuple[float, float] | None = None  # when it began and when it ends

    @contextmanager
    def phase(self, title: str, story: str) -> Iterator[None]:
        """Frame a phase: its story first, then the breakers, live while it runs and once more at its end."""
        self.console.print()
        self.console.rule(f"[bold]{title}", align="left")
        self.console.print(story)
        if self.console.is_terminal:
            with Live(get_renderable=self._now, console=self.console, refresh_per_second=5, transient=True):
                yield
        else:
            yield
        self.console.print(self._breakers())

    def trade(self, number: int, answer: Answer) -> None:
        """Show a trade's answer, and leave a person the time to see it."""
        if answer.filled:
            text = f"[green]{answer.status} filled[/]"
        elif answer.rejected:
            text = f"[yellow]{answer.status} rejected by the open circuit, Retry-After {answer.retry_after} s[/]"
        else:
            text = f"[red]{answer.status} {answer.body.get('code', '')}[/]"
        self.console.print(f"  trade {number:>2}  {answer.seconds * 1000:7.1f} ms  {text}")
        if self.console.is_terminal:
            time.sleep(0.3)

    def wait(self, seconds: float, why: str) -> None:
        """Let time pass, visibly."""
        self.console.print(f"  {why}: {seconds:.0f} s")
        self._wait = (time.monotonic(), time.monotonic() + seconds)
        time.sleep(seconds)
        self._wait = None

    def verdict(self, behaved: bool, text: str) -> None:
        """Say whether a phase behaved."""
        mark = "[bold green]ok[/]" if behaved else "[bold red]NOT AS EXPECTED[/]"
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
            return Text(f"the gateway does not show its breakers: {error}")
        table = Table(box=None, padding=(0, 2), pad_edge=True)
        for heading in ("breaker", "state", "calls in window", "failed", "rejected in all"):
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


def ask(question: str) -> bool:
    """Ask the person at the terminal, who agrees by pressing Enter; nobody there means no."""
    if sys.stdin is None or not (sys.stdin.isatty() and sys.stdout.isatty()):
        return False
    try:
        return input(f"\n{question} [Y/n] ").strip().lower() in ("", "y", "yes")
    except EOFError:
        return False
