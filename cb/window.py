"""What the tallies of a row add up to, for all processes."""

from collections.abc import Iterator
from dataclasses import dataclass

from . import layout as at
from .row import Row

_LANES = range(at.TALLY, at.PAGE, at.TALLY_CELLS)


@dataclass(frozen=True, slots=True)
class Counts:
    """Calls of the window."""

    requests: int
    failures: int
    slow: int

    @property
    def failure_rate(self) -> float:
        """0 to 1; 0 without calls."""
        return self.failures / self.requests if self.requests else 0.0

    @property
    def slow_call_rate(self) -> float:
        """0 to 1; 0 without calls."""
        return self.slow / self.requests if self.requests else 0.0


def counts(row: Row, now: int) -> Counts:
    """Return the calls of the last SLICES slices, the running one included, since the circuit was closed."""
    origin, length = row.head[at.ORIGIN], row.head[at.SLICE]
    running = max(now - origin, 0) // length
    oldest = origin + max(running - at.SLICES + 1, 0) * length
    requests = failures = slow = 0
    for page, lane in _tallies(row):
        for begin in range(lane + at.WINDOW, lane + at.TALLY_CELLS, at.SLICE_CELLS):
            if page[begin] >= oldest and page[begin + 1]:
                requests += page[begin + 1]
                failures += page[begin + 2]
                slow += page[begin + 3]
    return Counts(requests, failures, slow)


def slice_end(row: Row, now: int) -> int:
    """Return when the running slice ends."""
    origin, length = row.head[at.ORIGIN], row.head[at.SLICE]
    return origin + (max(now - origin, 0) // length + 1) * length


def streak(row: Row) -> int:
    """Return the number of failures since the last success of any process."""
    number = row.head[at.STREAK]
    return sum(page[lane + at.STREAK_FAILURES] for page, lane in _tallies(row) if page[lane + at.STREAK_OF] == number)


def probes(row: Row, generation: int) -> tuple[int, int, int]:
    """Return successes, failures and returned permits of a half-open round."""
    round_ = [
        page[lane + at.ROUND_SUCCESSES : lane + at.ROUND_RETURNED + 1]
        for page, lane in _tallies(row)
        if page[lane + at.ROUND] == generation
    ]
    successes, failures, returned = (sum(column) for column in zip(*round_, strict=True)) if round_ else (0, 0, 0)
    return successes, failures, returned


def totals(row: Row) -> list[int]:
    """Return the sum over all tallies of each cell before the window; that of a total or a histogram bar has a meaning."""
    sums = [0] * at.WINDOW
    for page, lane in _tallies(row):
        sums = [one + other for one, other in zip(sums, page[lane : lane + at.WINDOW], strict=True)]
    return sums


def in_flight(row: Row) -> int:
    """Return the number of running calls."""
    return sum(1 for page, lane in _tallies(row) if page[lane + at.STARTED])


def last_failure(row: Row) -> tuple[int, str] | None:
    """Return when a call failed last, and the name of its exception."""
    found = [page for page in row.pages() if page[at.FAILED_AT]]
    if not found:
        return None
    page = max(found, key=lambda page: page[at.FAILED_AT])
    data = b"".join(cell.to_bytes(8, "little", signed=True) for cell in page[at.FAILED_TYPE : at.TALLY])
    return page[at.FAILED_AT], data.rstrip(b"\0").decode(errors="replace")


def _tallies(row: Row) -> Iterator[tuple[list[int], int]]:
    for page in row.pages():
        for lane in _LANES:
            yield page, lane
