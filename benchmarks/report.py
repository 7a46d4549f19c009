"""The documentation of a run: `python -m benchmarks.report` generates it from run/bench.json.

It copies the run to docs/benchmarks.json, and writes docs/benchmarks.md, docs/images/benchmarks.svg and the section of
README.md between its two markers. `python -m benchmarks.report docs/benchmarks.json` writes them again.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .__main__ import WRITTEN
from .chart import describe, draw
from .peers import LIBRARIES, OURS
from .result import Check, Figure, written

KEPT, PAGE, PICTURE, README = (
    Path(name) for name in ("docs/benchmarks.json", "docs/benchmarks.md", "docs/images/benchmarks.svg", "README.md")
)
BEGIN, END = "<!-- benchmarks: `python -m benchmarks.report` writes this -->\n", "<!-- /benchmarks -->\n"
Report = Mapping[str, Any]


def page(report: Report) -> str:
    """Return docs/benchmarks.md."""
    return "\n".join(_page(report))


def _page(report: Report) -> Iterator[str]:
    around = report["environment"]
    yield "# Benchmarks\n"
    yield f"![{describe(report)}](images/benchmarks.svg)\n"
    yield "The results of `make bench`, in the order of the run. `python -m benchmarks NAME` repeats one table;"
    yield "`python -m benchmarks.report` generates this page from the last run, so no figure is written by hand.\n"
    yield "| | |\n| --- | --- |"
    yield f"| date | {around['date']} |"
    yield f"| machine | {around['cpu']}, {around['cores']} cores; load at the start {around['load']} |"
    yield f"| Python | {around['python']} on {around['system']} |"
    for name, version in around["versions"].items():
        yield f"| {name} | {version} |"
    yield "\nAll libraries have the same thresholds. Each is set up as in its documentation:\n"
    yield "| | a breaker is shared by | setup |\n| --- | --- | --- |"
    for library in LIBRARIES.values():
        yield f"| {library.name} | {library.shared} | `{library.setup}` |"
    yield "\nLibraries with Redis use a client with a timeout of 0.2 s and without retries, except purgatory, which"
    yield "accepts only a URL. `1.00x` is this library; a higher cost is slower, a higher rate is faster.\n"
    for name, result in report["results"].items():
        yield f"## {result['title']}\n"
        yield f"`python -m benchmarks {name}`\n"
        yield f"| | {' | '.join(result['columns'])} |"
        yield f"| --- |{' ---: |' * len(result['columns'])}"
        for row, figures in result["rows"].items():
            yield f"| {row} | {' | '.join(map(written, figures))} |"
        yield ""
        for check in (Check(**each) for each in result["checks"]):
            yield f"- {check}{'' if check.met else ': **missed**'}"
        if result["checks"]:
            yield ""


def section(report: Report) -> str:
    """Return the table of README.md: libraries with state in the process, and with Redis in parentheses."""
    around = report["environment"]
    rows = {name: result["rows"] for name, result in report["results"].items()}
    names = [name for name, each in LIBRARIES.items() if each.shared != "hosts" and not name.startswith(f"{OURS},")]
    figures = {
        "Calls that reach a dead dependency under 8 workers": lambda name: _whole(rows["leak"], name, 3),
        "A successful call, ns": lambda name: _whole(rows["success"], name, 0),
        "A rejected call, ns": lambda name: _whole(rows["rejection"], name, 0),
        "Until other workers reject too, ms": lambda name: _span(rows["propagation"], name, 0),
        "The longest call while Redis hangs, ms": lambda name: _span(rows["outage"], f"{name}, Redis: frozen", 1),
    }
    lines = [f"| | {' | '.join(names)} |", f"| --- |{' ---: |' * len(names)}"]
    for title, figure in figures.items():
        cells = [figure(name) + (f" ({shared})" if (shared := figure(f"{name}, Redis")) else "") for name in names]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    machine = f"{around['cpu']}, {around['cores']} cores, Python {around['python']}, {around['date']}"
    note = f"In parentheses: with Redis, each worker a host of its own. {machine}; [all tables and versions]({PAGE})."
    return BEGIN + "\n".join(lines) + f"\n\n{note}\n{END}"


def _whole(rows: Mapping[str, list[Figure]], name: str, column: int) -> str:
    return f"{rows[name][column]:,.0f}" if name in rows else ""


def _span(rows: Mapping[str, list[Figure]], name: str, column: int) -> str:
    """Return milliseconds as text; the first word of a text; empty without a row of that name."""
    if name not in rows:
        return ""
    value = rows[name][column]
    if isinstance(value, str):
        return value.partition(" ")[0]
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"


def put(text: str, new: str) -> str:
    """Return README.md with its section replaced. Raises ValueError if it has none."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"README.md lacks {BEGIN.strip()} or {END.strip()}")
    return before + new + after


def main(source: Path = WRITTEN) -> int:
    """Return the exit code."""
    report = json.loads(source.read_text())
    if report["quick"]:
        sys.exit(f"{source} is from a quick run, whose figures are not meaningful")
    try:
        parts = {PAGE: page(report), PICTURE: draw(report), README: put(README.read_text(), section(report))}
    except KeyError as error:
        sys.exit(f"{source} lacks {error}: run `make bench`, which runs all benchmarks")
    KEPT.write_text(json.dumps(report, indent=2) + "\n")
    for path, text in parts.items():
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:2])))
