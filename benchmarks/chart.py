"""A chart of a run, as SVG for light and dark pages: leaked calls, cost of a call, and other key figures."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from .uvicorn_workers import UVICORN

WIDTH, PAD, LINE = 920, 24, 22
#: Width of a panel of bars, and of the names in it.
HALF, NAMES = (WIDTH - 3 * PAD) / 2, 118
OURS = "cb"
WORDS = {"GET market-data": "reads", "POST trades": "orders"}
STYLE = """
text { font: 13px system-ui, -apple-system, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif; fill: #24292f }
.head { font-size: 15px; font-weight: 600 } .small { font-size: 12px; fill: #656d76 }
.ours { font-weight: 600; fill: #0a7d4f }
.back { fill: #ffffff; stroke: #d0d7de } .grid { stroke: #d8dee4 } .peer { fill: #b1bac4 } .mine { fill: #1a9c67 }
.never { fill: #e5b8b4 } .bad { fill: #b3382c }
.curve { fill: none; stroke: #8c959f; stroke-width: 2 } .ourcurve { fill: none; stroke: #1a9c67; stroke-width: 3.5 }
.dot { fill: #8c959f } .ourdot { fill: #1a9c67 }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 } .small { fill: #9198a1 } .ours { fill: #4ed99a } .back { fill: #0d1117; stroke: #3d444d }
.grid { stroke: #2f353d } .peer { fill: #58616b } .mine { fill: #2fb47c }
.never { fill: #6e3630 } .bad { fill: #ff8f80 }
.curve { stroke: #7d8590 } .ourcurve { stroke: #2fb47c } .dot { fill: #7d8590 } .ourdot { fill: #2fb47c }
}
"""
Rows = Mapping[str, Sequence[Any]]


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar of a panel: its length as a share of 1, and the text behind it."""

    name: str
    length: float
    text: str
    kind: str


def draw(report: Mapping[str, Any]) -> str:
    """Return the chart of a report. Raises KeyError if the report lacks a benchmark."""
    results = report["results"]
    left, right, top = PAD, PAD + HALF + PAD, 386
    low = top + 76 + LINE * (len(results["success"]["rows"]) - 2)
    panels = [
        (left, top, "A successful call", "ns, less is better", _costs(results["success"]["rows"])),
        (right, top, "A rejected call", "ns, less is better", _costs(results["rejection"]["rows"])),
        (left, low, "One worker opens: until all 4 reject", "logarithmic", _spans(results["propagation"]["rows"])),
        (
            right,
            low,
            "Redis hangs: the longest call",
            "logarithmic; Redis hangs, not the dependency",
            _outage(results["outage"]["rows"]),
        ),
        (
            right,
            low + 152,
            "The gateway's throughput",
            "1 is without breakers, more is better",
            _ratios(results["end_to_end"]["rows"]),
        ),
    ]
    parts = [*_leak(_of_processes(results["leak"]["rows"]), results["leak"]["columns"])]
    for x, y, head, unit, bars in panels:
        parts += _panel(x, y, head, unit, bars)
    height = max(y + 62 + len(bars) * LINE for _, y, *_, bars in panels)
    around = report["environment"]
    note = f"make bench, {around['date']}, {around['cpu']}, {around['cores']} cores, Python {around['python']}"
    parts.append(_text(PAD, height, note, "small"))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height + 18}" role="img" '
        f'aria-label="{escape(describe(report))}">\n<style>{STYLE}</style>\n'
        f'<rect class="back" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height + 17}" rx="8"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def describe(report: Mapping[str, Any]) -> str:
    """Return the main result in a sentence, as the text alternative of the chart."""
    rows = report["results"]["leak"]["rows"]
    most = max(values[3] for values in rows.values())
    return f"Of 8 workers, {rows[OURS][3]:.0f} calls reach a dead dependency with cb, and up to {most:.0f} with others."


def _of_processes(rows: Rows) -> Rows:
    """Return the rows without those of uvicorn, whose curves are the same."""
    return {name: values for name, values in rows.items() if not name.endswith(UVICORN)}


def _leak(rows: Rows, columns: Sequence[str]) -> Iterator[str]:
    """Draw the calls by number of workers. Libraries with equal figures share a curve."""
    yield _text(PAD, 36, "Calls that reach a dead dependency before all workers reject", "head")
    yield _text(
        PAD, 56, "each opens after 10 consecutive failures; with Redis, each worker is a host of its own", "small"
    )
    left, right, bottom, height = PAD + 30, 560, 318, 230
    most = max(values[3] for values in rows.values()) * 1.05
    for step in range(0, int(most) + 1, 20):
        y = bottom - step / most * height
        yield f'<line class="grid" x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield _text(left - 8, y + 4, str(step), "small", "end")
    places = [left + 30 + place / 3 * (right - left - 60) for place in range(4)]
    for x, column in zip(places, columns, strict=False):
        yield _text(x, bottom + 22, column, "small", "middle")
    curves: dict[tuple[float, ...], list[str]] = {}
    for name, values in rows.items():
        curves.setdefault(tuple(values[:4]), []).append(name)
    below: list[str] = []
    on_top: list[str] = []
    lowest = bottom + 14.0
    for values, names in sorted(curves.items(), key=lambda curve: (curve[0][3], OURS not in curve[1])):
        points = [(x, bottom - value / most * height) for x, value in zip(places, values, strict=True)]
        mine = "our" if OURS in names else ""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        shapes = on_top if mine else below
        shapes.append(f'<polyline class="{mine}curve" points="{path}"/>')
        shapes += [f'<circle class="{mine}dot" cx="{x:.1f}" cy="{y:.1f}" r="4"/>' for x, y in points]
        lines = [", ".join(names[at : at + 3]) + "," * (at + 3 < len(names)) for at in range(0, len(names), 3)]
        lowest = y = min(points[-1][1] + 5, lowest - 18 * len(lines))
        for number, line in enumerate(lines):
            text = f"{values[3]:.0f}  {line}" if number == 0 else line
            yield _text(right - 12 + (0 if number == 0 else 22), y + 18 * number, text, "ours" if mine else "")
    yield from below + on_top


def _panel(left: float, top: float, head: str, unit: str, bars: Sequence[Bar]) -> Iterator[str]:
    yield _text(left, top, head, "head")
    yield _text(left, top + 18, unit, "small")
    room = HALF - NAMES - 128
    for number, bar in enumerate(bars):
        y = top + 42 + number * LINE
        mine = "cb" in bar.name.split(", ")
        yield _text(left + NAMES - 8, y, bar.name, "ours" if mine else "", "end")
        width = max(bar.length * room, 2)
        kind = bar.kind or ("mine" if mine else "peer")
        yield f'<rect class="{kind}" x="{left + NAMES}" y="{y - 11:.1f}" width="{width:.1f}" height="14" rx="2"/>'
        yield _text(left + NAMES + width + 6, y, bar.text, "bad" if bar.kind == "never" else "ours" if mine else "")


def _costs(rows: Rows) -> list[Bar]:
    shown = {name: values[0] for name, values in rows.items() if name not in ("no breaker", "cb, memory")}
    most = max(shown.values())
    return [
        Bar(name, cost / most, f"{cost:,.0f}  ({cost / shown[OURS]:.2f}x)", "")
        for name, cost in sorted(shown.items(), key=lambda pair: (pair[0] != OURS, pair[1]))
    ]


def _spans(rows: Rows) -> list[Bar]:
    return [
        Bar(name, 1, str(values[0]), "never")
        if isinstance(values[0], str)
        else Bar(name, _log(values[0], 5_000), _short(values[0]), "")
        for name, values in rows.items()
    ]


def _outage(rows: Rows) -> list[Bar]:
    bars = []
    for name, values in rows.items():
        library, _, way = name.partition(": ")
        if way == "frozen" and library != OURS:
            fine = str(values[2]).endswith(" answered")
            text = _short(values[1]) + ("" if fine else f", {str(values[2]).partition(' ')[2]}")
            bars.append(Bar(library, _log(values[1], 1_000), text, "" if fine else "never"))
    return bars


def _ratios(rows: Rows) -> list[Bar]:
    bars = []
    for name, values in rows.items():
        route, _, way = name.partition(": ")
        if way != "without":
            who = OURS if way == "with breakers" else way
            bars.append(Bar(f"{WORDS[route]}, {who}", float(values[1]) / 1.2, f"{values[1]}  ({values[2]})", ""))
    return bars


def _short(milliseconds: float) -> str:
    return f"{milliseconds:,.0f} ms" if milliseconds >= 10 else f"{milliseconds:.2g} ms"


def _log(milliseconds: float, most: float) -> float:
    """Return the position between 0.01 and `most` on a logarithmic scale, as a share of 1."""
    return min(max(math.log10(max(milliseconds, 0.01) / 0.01) / math.log10(most / 0.01), 0.01), 1)


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
