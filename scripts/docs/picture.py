"""The state diagram as SVG. The changes of state come from the code, their layout from this file."""

from dataclasses import dataclass

from cb import State

from .transitions import ACTIONS, Arrow, by_itself, by_operator

#: Size of a state.
_WIDTH, _HEIGHT = 216, 88
_STYLE = """
    svg { color-scheme: light dark; }
    .page { fill: #ffffff; } .area { fill: #f5f7f9; stroke: #dde3e9; } .card { fill: #ffffff; stroke-width: 2; }
    text { font: 14px system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; fill: #25303b; }
    .name { font: 600 17px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
    .small { font-size: 13px; fill: #5b6875; } .head { font-size: 12px; letter-spacing: .08em; fill: #5b6875; }
    .arrow { fill: none; stroke: #46525f; stroke-width: 1.8; marker-end: url(#tip); } .tip { fill: #46525f; }
    .time { stroke-dasharray: 6 5; } .operator { stroke: #6b4fbb; marker-end: url(#tip-operator); }
    .tip-operator, .by { fill: #6b4fbb; } .by { font-size: 13px; }
    .CLOSED { --state: #1a8f5a; } .OPEN { --state: #cf3a3a; } .HALF_OPEN { --state: #c27a06; }
    .FORCED_OPEN { --state: #a8326e; } .DISABLED { --state: #6d7883; } .METRICS_ONLY { --state: #2874c7; }
    .card { stroke: var(--state); } .wire { stroke: var(--state); stroke-width: 3; stroke-linecap: round; }
    .dot { fill: var(--state); }
    @media (prefers-color-scheme: dark) {
      .page { fill: #1e2129; } .area { fill: #262a34; stroke: #3a404d; } .card { fill: #1e2129; }
      text { fill: #e4e8ee; } .small, .head { fill: #a3adba; }
      .arrow { stroke: #b4bdc9; } .tip { fill: #b4bdc9; }
      .operator { stroke: #b29cf0; } .tip-operator, .by { fill: #b29cf0; }
      .CLOSED { --state: #3ecf8e; } .OPEN { --state: #ff6b6b; } .HALF_OPEN { --state: #f0b03f; }
      .FORCED_OPEN { --state: #ef74b3; } .DISABLED { --state: #97a2af; } .METRICS_ONLY { --state: #62a8f5; }
    }
"""


@dataclass(frozen=True, slots=True)
class _Place:
    """Position of a state, its effect on calls, and the angle of its switch in degrees."""

    x: int
    y: int
    effect: str
    switch: int


@dataclass(frozen=True, slots=True)
class _Line:
    """Path of an arrow, and position and lines of its label."""

    path: str
    x: int
    y: int
    label: tuple[str, ...]
    #: True if time alone causes the change
    time: bool = False
    anchor: str = "middle"


_STATES = {
    State.CLOSED: _Place(64, 76, "every call runs", 0),
    State.OPEN: _Place(680, 76, "every call is rejected", 38),
    State.HALF_OPEN: _Place(372, 236, "a few probes run", 18),
    State.METRICS_ONLY: _Place(64, 452, "runs all, counts all", 0),
    State.DISABLED: _Place(372, 452, "runs all, counts none", 0),
    State.FORCED_OPEN: _Place(680, 452, "every call is rejected", 38),
}
_LINES: dict[Arrow, _Line] = {
    (State.CLOSED, State.OPEN): _Line(
        "M280 108 H674", 480, 76, ("failures in a row, failure rate", "or rate of slow calls too high")
    ),
    (State.OPEN, State.HALF_OPEN): _Line(
        "M810 164 C810 250 740 290 594 290", 770, 208, ("the open time ends,", "the next call is a probe"), anchor="end"
    ),
    (State.HALF_OPEN, State.OPEN): _Line(
        "M540 236 C556 178 600 140 674 138", 480, 170, ("too many probes fail,", "or no verdict in time")
    ),
    (State.HALF_OPEN, State.CLOSED): _Line(
        "M372 290 C300 290 238 250 238 170", 280, 200, ("enough", "probes succeed"), anchor="start"
    ),
    (State.METRICS_ONLY, State.CLOSED): _Line("M96 452 V170", 88, 386, ("expires",), time=True, anchor="end"),
    (State.DISABLED, State.CLOSED): _Line(
        "M480 452 V402 Q480 394 472 394 H148 Q140 394 140 386 V170", 400, 386, ("expires",), time=True
    ),
    (State.FORCED_OPEN, State.HALF_OPEN): _Line(
        "M740 452 V402 Q740 394 732 394 H528 Q520 394 520 386 V330", 630, 386, ("expires",), time=True
    ),
}
#: An operator's changes, possible in any state.
_HOLD = _Line("M772 356 V424", 784, 386, ("set, from any state",), anchor="start")
_RESET = _Line("M190 430 V170", 200, 380, ("reset, from any state",), anchor="start")


def svg() -> str:
    """Return the diagram. Raises ValueError if the code makes other changes of state than those placed here."""
    found = by_itself()
    if found.keys() != _LINES.keys() or by_operator() != {*ACTIONS, State.CLOSED}:
        raise ValueError(f"{found.keys() ^ _LINES.keys()} or an operator's action has no place in the diagram")
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 960 604" width="960" height="604" role="img">',
        "<title>The states of a circuit</title>",
        "<desc>" + "; ".join(f"{before} to {after}" for before, after in found) + ".</desc>",
        f"<style>{_STYLE}</style>",
        f"<defs>{_tip('tip')}{_tip('tip-operator')}</defs>",
        '<rect class="page" width="960" height="604" rx="12"/>',
        _area(20, 336, "CHANGED BY CALLS AND TIME", 46),
        _area(430, 154, "SET BY AN OPERATOR", 568),
        *(_state(state, place) for state, place in _STATES.items()),
        *(_arrow(line, "arrow time" if line.time else "arrow") for line in _LINES.values()),
        *(_arrow(line, "arrow operator") for line in (_HOLD, _RESET)),
    ]
    return "\n".join(parts) + "\n</svg>\n"


def _tip(name: str) -> str:
    shape = f'<path class="{name}" d="M0 0 L9 4.5 L0 9 L2.2 4.5 Z"/>'
    size = 'markerWidth="9" markerHeight="9" refX="7" refY="4.5" orient="auto" markerUnits="userSpaceOnUse"'
    return f'<marker id="{name}" {size}>{shape}</marker>'


def _area(y: int, height: int, head: str, line: int) -> str:
    box = f'<rect class="area" x="24" y="{y}" width="912" height="{height}" rx="10"/>'
    return f'{box}<text class="head" x="40" y="{line}">{head}</text>'


def _state(state: State, place: _Place) -> str:
    x, y = place.x, place.y
    card = f'<rect class="card" x="{x}" y="{y}" width="{_WIDTH}" height="{_HEIGHT}" rx="10"/>'
    left, middle = x + 20, y + 46
    lever = f'<path class="wire" d="M{left} {middle} h30" transform="rotate({-place.switch} {left} {middle})"/>'
    dots = "".join(f'<circle class="dot" cx="{cx}" cy="{middle}" r="4.5"/>' for cx in (left, left + 32))
    name = f'<text class="name" x="{x + 68}" y="{y + 42}">{state}</text>'
    effect = f'<text class="small" x="{x + 68}" y="{y + 63}">{place.effect}</text>'
    return f'<g class="{state}">{card}{lever}{dots}{name}{effect}</g>'


def _arrow(line: _Line, kind: str) -> str:
    style = "by" if "operator" in kind else "small"
    label = "".join(
        f'<text class="{style}" x="{line.x}" y="{line.y + 17 * number}" text-anchor="{line.anchor}">{text}</text>'
        for number, text in enumerate(line.label)
    )
    return f'<path class="{kind}" d="{line.path}"/>{label}'
