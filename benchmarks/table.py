"""Results as tables on the terminal."""

from rich.console import Console
from rich.table import Table

from .result import Result, written


def show(result: Result, console: Console) -> None:
    """Print a result as a table, with its checks below."""
    table = Table(title=result.title)
    table.add_column("")
    for heading in result.columns:
        table.add_column(heading, justify="right")
    for name, figures in result.rows.items():
        table.add_row(name, *map(written, figures))
    console.print(table)
    for check in result.checks:
        console.print(f"{'ok  ' if check.met else 'MISS'} {check}")
