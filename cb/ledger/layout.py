"""Where each number of a ledger lies: the format of the file, cell by cell.

A cell is a signed 64-bit integer in the machine's byte order, a page 512 cells. The file is the header, 17 pages, and
MAX_ROWS rows; a row is one breaker: its head page and 63 blocks of a page. A block belongs to one process, in all rows
at once, for as long as that process holds the block's lock file. In each row it holds six tallies; a tally belongs to
one call at a time, so that every cell outside the head has one writer and needs no lock.

Times are CLOCK_MONOTONIC nanoseconds; 0 means never. Cells are written one at a time through a memoryview, whose stores
are single machine instructions: a reader sees the old number or the new one, never a mixture.
"""

from collections.abc import Iterator

from cb.states import STATES, State

VERSION = 3
MAGIC = int.from_bytes(b"cbledger", "little")

PAGE = 512
SHARDS = 63
RECORD = (1 + SHARDS) * PAGE
MAX_RECORDS = 1024

# The header. The magic is written last; the boot id takes two cells.
H_MAGIC, H_VERSION, H_BOOT, H_RECORDS, H_EVENTS = 0, 1, 2, 4, 5  # H_EVENTS: number of the latest event
# Written by the host's agent, where there is a fleet: who the host is there, until when the fleet leads its circuits,
# how many hosts there are, and when they last had an exchange.
H_HOST, H_FLEET_LEASE_UNTIL, H_HOSTS, H_LAST_SYNC = 8, 9, 10, 11
H_CLOCK = 6  # by how many nanoseconds the clock of its processes is ahead of the machine's, in a time namespace
H_WAKE_AGENT = 12  # not 0: a worker wants something of the agent (any call)
H_DEGRADED_AT = 48  # when a process last noted that it does not count in blocks of its own, as it should (any process)
H_SHARD_OWNERS = 64  # process number of each block's owner, 0 once the block has been given up or its dead owner buried
H_SHARD_HEARTBEATS = 128  # when each block's owner counted calls: if it finds another time, the file was written over
EVENTS, EVENT_CELLS = 200, 40  # the latest transitions, in a ring that begins at the second page
HEADER = 17 * PAGE
# An event: its number (written last), wall time in nanoseconds, row, states before * 8 + after, generation, reason.
E_NUMBER, E_TIME, E_RECORD, E_STATES, E_GENERATION, E_REASON, E_REASON_CELLS = 0, 1, 2, 3, 4, 8, 32

# The head of a row. Written under the ledger lock, but for those that say otherwise.
WORD = 0  # generation << 16 | version of the configuration << 3 | state: one load says all three
SINCE = 1  # when this state was entered
UNTIL = 2  # OPEN: when a probe is due; HALF_OPEN: when the round ends; held by an operator: when that expires
ORIGIN = 3  # where the window began: slices from before it do not count
SLICE = 4  # length of a slice
ROUNDS = 5  # rounds that failed since the circuit was last closed
BULKHEAD_LIMIT = 6  # calls that a bulkhead lets run at once, 0 without one (any process that makes one)
QUIET = 7  # WORD, if no outcome in the window asks a quick success to look closer; else 0 (any call)
QUIET_UNTIL = 8  # until then no quick success can open the circuit, QUIET or not (any call)
STREAK = 9  # number of the running streak of failures: a success after a failure begins a new one (any call)
STREAK_ACTIVE = 10  # not 0: the streak has failures (any call)
RETRY_AT = 11  # no probe before this: a dependency's Retry-After (any call)
WOULD_OPEN = 12  # not 0: METRICS_ONLY, and the circuit would be open
# WORD of a state that had no permit for a call at the last look, and until when nobody need look again (any call).
NO_PERMIT, NO_PERMIT_UNTIL = 14, 15
CONFIG_DIGEST = 13  # digest of the configuration that the code asked for, whatever was changed since
# Written by the host's agent, unless they say otherwise. A fleet's state is its generation << 3 | code, 0 before the
# first exchange.
FLEET = 80  # the fleet's state that the agent has seen last
FLEET_CONTROLLED = 81  # not 0: this state was entered because it is the fleet's, which alone may change it
PERMITS = 82  # permits of the round that the fleet has given to this host
PROBE_REQUESTED = 83  # not 0: a call was refused that could have been a probe (any call)
PUBLISH = 84  # not 0: an operator's state, with this generation, that the fleet does not know yet
PUBLISH_THRESHOLDS = 85  # not 0: an operator's thresholds, with this version, that the fleet does not know yet
EXEMPT = 87  # the fleet's state that an operator has exempted this host from
FLEET_THRESHOLDS = 86  # version of the fleet's thresholds that were taken over
PROBE_ENDED = 91  # not 0: a probe of the fleet's round has ended (any call)
REPORTED = 88  # requests, failures and slow calls that the fleet knows of
# Written by the process that checks the dependency's health. HEALTH is 0 before the first check, 1 up, 2 down.
HEALTH, HEALTH_SINCE = 92, 93  # what the last check found, and when it was first found so
HEALTH_AT, HEALTH_TOOK = 94, 95  # when the last check ended, and how long it took
HEALTH_UNTIL = 96  # from then on a check is overdue, and nobody knows
PROBER_UNTIL = 97  # until then only health checks are probes
FLEET_UNREACHABLE = 110  # not 0: the fleet's server had no sound answer about this breaker when it was last asked
CHANGES = 16  # transitions, by state before * 8 + state after
# Probes that the round admits beyond its permits, for calls within its probes that needed one of their own (any call).
EXTRA_PERMITS = 64
REASON, REASON_CELLS = 128, 32  # why this state was entered, UTF-8
NAME, NAME_CELLS = 160, 16
SHARD_ALLOCATED = 192  # one cell per block, written by its owner: not 0 once the block has memory in this row
CONFIG, CONFIG_CELLS = 256, 128  # the thresholds in force, as JSON
# The commons: laid out as a block with one tally, for the processes that have no block. Written under the lock
# `commons`, but for the cells of rounds and ADMITTED of a probe, under the ledger lock. STARTED stays 0.
HOST_COUNTERS = 384

# A block: who failed last in this process, then the tallies.
FAILED_AT, FAILED_TYPE, FAILED_TYPE_CELLS = 0, 1, 7
STRIPES, STRIPES_START, STRIPE_CELLS = 6, 8, 84

# A tally.
STARTED = 0  # when the running call began, 0 between calls; plus `tally.PAUSED` while it waits for its caller
ADMITTED = 1  # WORD as the call found it that used this tally last
FULL, SLOW, NEUTRAL, LATE, REJECTED, ELAPSED = 2, 3, 4, 5, 6, 7  # totals; ELAPSED in nanoseconds
STREAK_OF, STREAK_FAILURES = 8, 9  # failures of this tally in the streak with that number
# Probes of the round with that generation: permits taken, and how each ended. One is out while TAKEN exceeds their sum.
ROUND, ROUND_TAKEN, ROUND_SUCCESSES, ROUND_FAILURES, ROUND_RETURNED = 10, 11, 12, 13, 14
# Calls by duration, successes and failures apart: one store counts a call, so that no total ever seems to go back.
SUCCESSES, FAILURES = 15, 29
BOUNDS = tuple(round(seconds * 1e9) for seconds in (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30))
SLICES, SLICE_CELLS = 10, 4  # slices in a window
WINDOW = 43  # of each slice: when it began, and how many calls, failures and slow calls there had been until then
BARS = len(BOUNDS) + 1
assert SUCCESSES + BARS == FAILURES
assert FAILURES + BARS == WINDOW
assert WINDOW + SLICES * SLICE_CELLS <= STRIPE_CELLS
assert STRIPES_START + STRIPES * STRIPE_CELLS == PAGE
assert H_SHARD_OWNERS + SHARDS <= H_SHARD_HEARTBEATS
assert H_SHARD_HEARTBEATS + SHARDS <= PAGE
assert PAGE + EVENTS * EVENT_CELLS <= HEADER
HOST_COUNTERS_CELLS = STRIPES_START + STRIPE_CELLS
assert CONFIG + CONFIG_CELLS <= HOST_COUNTERS
assert HOST_COUNTERS + HOST_COUNTERS_CELLS <= PAGE


#: for codes of no state: a damaged WORD lets calls through until the damage is detected
_BY_CODE = (*STATES, State.CLOSED, State.CLOSED)


def state_of(word: int) -> State:
    """Return the state in a WORD."""
    return _BY_CODE[word & 7]


def generation_of(word: int) -> int:
    """Return the number of the stay in a state."""
    return word >> 16


def is_record(head: memoryview) -> bool:
    """Return whether the head of a row makes sense, as it does unless somebody has written over it."""
    largest = (1 << 63) - (1 << 50)  # above all that are written: a sum with a larger number may leave its cell
    numbers = [
        *head[WORD:QUIET].tolist(),
        head[STREAK],
        head[RETRY_AT],
        *head[CHANGES : CHANGES + len(STATES) * 8].tolist(),
    ]
    return (
        numbers[WORD] >= 1 << 16
        and numbers[WORD] & 7 < len(STATES)
        and head[NAME] != 0
        and numbers[SLICE] > 0
        and min(numbers[ROUNDS:]) >= 0
        and max(numbers) < largest
        and min(numbers) > -largest
    )


def is_stripe(cells: memoryview) -> bool:
    """Return whether a tally makes sense: every number of it may be counted up, and any sum of them be written."""
    numbers = cells.tolist()
    return min(numbers) >= 0 and max(numbers[ADMITTED:]) < 1 << 62 and max(numbers[SUCCESSES:WINDOW]) < 1 << 57


def blocks(cells: memoryview) -> list[int]:
    """Return the numbers of a row's blocks that have memory. Others must not be touched."""
    return [block for block, used in enumerate(cells[SHARD_ALLOCATED : SHARD_ALLOCATED + SHARDS].tolist()) if used]


def tallies(cells: memoryview) -> Iterator[int]:
    """Yield where each tally of a row begins."""
    for block in blocks(cells):
        start = (1 + block) * PAGE + STRIPES_START
        yield from range(start, start + STRIPES * STRIPE_CELLS, STRIPE_CELLS)


def put_text(cells: memoryview, at: int, size: int, text: str) -> None:
    """Write text into `size` cells, cut to fit."""
    data = cut_text(text, size * 8).encode()
    cells[at : at + size] = memoryview(data.ljust(size * 8, b"\0")).cast("q")


def cut_text(text: str, size: int) -> str:
    """Return as much of a text as fits into so many bytes."""
    return text.encode(errors="replace")[: max(size, 0)].decode(errors="ignore")


def get_text(cells: memoryview, at: int, size: int) -> str:
    """Read what `put_text` wrote."""
    return cells[at : at + size].tobytes().rstrip(b"\0").decode(errors="replace")
