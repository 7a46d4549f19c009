"""The documentation of a run: `python -m benchmarks.report` makes it of run/bench.json, no figure by hand.

It keeps the run as docs/benchmarks.json, and writes docs/benchmarks.md, docs/images/benchmarks.svg and the section of
README.md between its two marks. `python -m benchmarks.report docs/benchmarks.json` writes them anew.
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
    around = report["surroundings"]
    yield "# Benchmarks\n"
    yield f"![{describe(report)}](images/benchmarks.svg)\n"
    yield "What `make bench` has found, in the order in which it ran. `python -m benchmarks NAME` repeats one table,"
    yield "and `python -m benchmarks.report` makes this page of the last run; no figure is written by hand.\n"
    yield "| | |\n| --- | --- |"
    yield f"| date | {around['date']} |"
    yield f"| machine | {around['cpu']}, {around['cores']} cores; load when it began {around['load']} |"
    yield f"| Python | {around['python']} on {around['system']} |"
    for name, version in around["versions"].items():
        yield f"| {name} | {version} |"
    yield "\nAll libraries have the same thresholds, and each is set up as its own documentation does it:\n"
    yield "| | a breaker is shared by the | setup |\n| --- | --- | --- |"
    for library in LIBRARIES.values():
        yield f"| {library.name} | {library.shared} | `{library.setup}` |"
    yield "\nThose with Redis have a client that waits 0.2 s for it and does not try again, except purgatory, which"
    yield "takes a URL only. `1.00x` is ours; of a cost, more is slower, and of a rate, more is faster.\n"
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
    """Return what README.md says between the marks."""
    around, results = report["surroundings"], report["results"]
    rows = {name: result["rows"] for name, result in results.items()}
    leak, cost, refused = rows["leak"], rows["success"], rows["rejection"]
    others = [name for name in leak if not name.startswith(OURS)]
    local = [name for name in others if LIBRARIES[name].shared != "hosts"]
    spread, hung, served = rows["propagation"], rows["outage"], rows["end_to_end"]
    apart, shared = (_range(leak[each][3] for each in others if (each in local) is alone) for alone in (True, False))
    lines = (
        f"With 8 workers, {leak[OURS][3]:.0f} calls reach a dead dependency before all refuse; with libraries that",
        f"  keep their state in the process {apart}, with Redis {shared}. {_between_hosts(leak)}",
        f"A call that succeeds takes {cost[OURS][0]:.0f} ns, a refused one {refused[OURS][0]:.0f} ns.",
        f"  Of that, {_compare(cost)} for a success;",
        f"  {_compare(refused)} for a refusal.",
        f"When one of 4 workers opens, the others refuse within {_span(spread[OURS][1])}, hosts that share it through",
        f"  Redis within {_span(spread['cb, Redis'][1])}; {_faster(spread)}.",
        f"While Redis hangs, a call takes {_span(hung['cb, Redis: frozen'][1])} at the most; {_hanging(hung)}.",
        f"The gateway serves {_ratio(served, 'with breakers')} of the requests that it serves without breakers, and",
        f"  {_ratio(served, 'interlock')} with interlock's (reads and orders; 95 % intervals in brackets).",
    )
    told = "".join(line if line.startswith(" ") else f"- {line}" for line in (f"{line}\n" for line in lines))
    machine = f"{around['cpu']}, {around['cores']} cores, Python {around['python']}, {around['date']}"
    picture = f"[![{describe(report)}]({PICTURE})]({PAGE})"
    return f"{BEGIN}{picture}\n\n`make bench` on {machine}; [all tables, versions and setups]({PAGE}):\n\n{told}{END}"


def _between_hosts(rows: Mapping[str, list[Figure]]) -> str:
    """Return what ours with Redis lets through where no two workers share a host, and who lets fewer."""
    ours = rows["cb, Redis"][3]
    fewer = [f"{name} ({values[3]:.0f})" for name, values in rows.items() if "Redis" in name and values[3] < ours]
    told = f", more than {' and '.join(fewer)}, which ask the server at each call" if fewer else ""
    return f"On 8 hosts, one worker each,\n  cb lets {ours:.0f} through{told}."


def _range(figures: Iterator[float]) -> str:
    found = sorted(set(figures))
    return f"{found[0]:.0f}" if len(found) == 1 else f"{found[0]:.0f} to {found[-1]:.0f}"


def _compare(rows: Mapping[str, list[Figure]]) -> str:
    """Return how many times ours each library takes, the quickest first."""
    peers = {
        name: float(str(values[1])[:-1]) for name, values in rows.items() if name in LIBRARIES and name[:2] != OURS
    }
    return ", ".join(
        f"{name} takes {ratio:.2f} times" for name, ratio in sorted(peers.items(), key=lambda pair: pair[1])
    )


def _faster(rows: Mapping[str, list[Figure]]) -> str:
    ours = rows["cb, Redis"][0]
    hosts = [name for name in rows if name in LIBRARIES and LIBRARIES[name].shared == "hosts" and name[:2] != OURS]
    quicker = [
        f"{name} ({_span(rows[name][0])})"
        for name in hosts
        if not isinstance(rows[name][0], str) and rows[name][0] < ours
    ]
    never = sum(isinstance(values[0], str) for values in rows.values())
    told = f"quicker between hosts, as each call asks the server, are {' and '.join(quicker)}; " if quicker else ""
    return f"{told}{never} of {len(rows)} setups never tell them"


def _hanging(rows: Mapping[str, list[Figure]]) -> str:
    told = []
    for name, values in rows.items():
        library, _, way = name.partition(": ")
        if way == "frozen" and not library.startswith(OURS):
            raised = "" if str(values[2]).endswith(" answered") else f", and raises {str(values[2]).partition(' ')[2]}"
            told.append(f"{library.partition(',')[0]}'s {_span(values[1])}{raised}")
    return ", ".join(told)


def _ratio(rows: Mapping[str, list[Figure]], way: str) -> str:
    found = [values for name, values in rows.items() if name.endswith(f": {way}")]
    return " and ".join(f"{values[1]} [{values[2]}]" for values in found)


def _span(milliseconds: Figure) -> str:
    if isinstance(milliseconds, str):
        return milliseconds
    return f"{milliseconds:.0f} ms" if milliseconds >= 10 else f"{milliseconds:.2g} ms"


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
        sys.exit(f"{source} is of a quick run, whose figures say nothing")
    try:
        parts = {PAGE: page(report), PICTURE: draw(report), README: put(README.read_text(), section(report))}
    except KeyError as error:
        sys.exit(f"{source} lacks {error}: run `make bench`, which runs all")
    KEPT.write_text(json.dumps(report, indent=2) + "\n")
    for path, text in parts.items():
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:2])))
