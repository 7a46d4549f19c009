"""The tables of docs/ledger.md, compared with the layout of the code."""

import re

from cb.ledger import layout
from cb.ledger.mapped import FILE_BYTES, HEADER_BYTES, PAGE_BYTES, RECORD_BYTES
from cb.states import STATES
from tests.support import ROOT

PAGE = (ROOT / "docs" / "ledger.md").read_text()
ROWS = re.findall(r"^\| (\d+)(?: to (\d+))? \| (\d+) \| `(\w+)` \| .+ \|$", PAGE, re.MULTILINE)
#: cells of those that have more than one, where no constant of its own says it
SIZES = {
    "H_BOOT": 2,
    "H_SHARD_OWNERS": layout.SHARDS,
    "H_SHARD_HEARTBEATS": layout.SHARDS,
    "H_PROGRAMS": layout.SHARDS * layout.PROGRAM_CELLS,
    "CHANGES": len(STATES) * 8,
    "REPORTED": 3,
    "SLICE": 1,
    "SHARD_ALLOCATED": layout.SHARDS,
    "STRIPES_START": layout.STRIPES * layout.STRIPE_CELLS,
    "SUCCESSES": layout.BARS,
    "FAILURES": layout.BARS,
    "WINDOW": layout.SLICES * layout.SLICE_CELLS,
}
#: what is a number of something, or lies where the text says
NO_CELLS = {
    *("VERSION", "MAGIC", "PAGE", "SHARDS", "RECORD", "MAX_RECORDS", "HEADER", "EVENTS", "EVENT_CELLS", "STRIPES"),
    *("STRIPE_CELLS", "SLICES", "SLICE_CELLS", "BARS", "E_REASON_CELLS", "REASON_CELLS", "NAME_CELLS", "CONFIG_CELLS"),
    "PROGRAM_CELLS",
    *("FAILED_TYPE_CELLS", "FAILED_WORKER_CELLS", "FAILED_MESSAGE_CELLS", "HOST_COUNTERS_CELLS"),
}


def test_every_cell_lies_where_the_page_says() -> None:
    for first, last, byte, name in ROWS:
        size = SIZES.get(name) or getattr(layout, f"{name}_CELLS", 1)
        assert (int(first), int(last or first) + 1) == (getattr(layout, name), getattr(layout, name) + size), name
        assert int(byte) == int(first) * 8, name


def test_page_has_every_cell_of_the_layout() -> None:
    cells = {name for name, value in vars(layout).items() if name.isupper() and isinstance(value, int)}
    assert {row[3] for row in ROWS} == cells - NO_CELLS


def test_page_has_the_sizes_and_the_codes_of_the_code() -> None:
    assert (layout.VERSION, layout.MAGIC.to_bytes(8, "little")) == (3, b"cbledger")
    text = " ".join(PAGE.split())
    for number in (FILE_BYTES, HEADER_BYTES, PAGE_BYTES, layout.MAX_RECORDS):
        assert f"{number:,}" in text
    assert f"`{HEADER_BYTES} + {RECORD_BYTES} * r`" in text and f"`{PAGE_BYTES} * (1 + b)`" in text
    assert f"`{layout.STRIPES_START * 8} + {layout.STRIPE_CELLS * 8} * t`" in text
    assert ", ".join(f"{code} {state}" for code, state in enumerate(STATES)) in text
    assert f"format is version {layout.VERSION}" in text and f"NAME.v{layout.VERSION}.ledger" in text


def test_page_has_the_bounds_of_the_durations() -> None:
    (listed,) = re.findall(r"bounds of the durations are (.*?):", " ".join(PAGE.split()))
    milliseconds, seconds = (re.findall(r"[\d.]+", part) for part in listed.split(" ms, "))
    bounds = [float(number) / 1e3 for number in milliseconds] + [float(number) for number in seconds]
    assert bounds == [bound / 1e9 for bound in layout.BOUNDS]
