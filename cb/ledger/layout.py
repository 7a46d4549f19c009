"""Format of a ledger, cell by cell: the one table of where each number lies.

A cell is a signed 64-bit integer in the machine's byte order; a page is 512 cells. The file is the header, 17 pages,
and MAX_RECORDS records. A record is one breaker: its head, one page, and 63 shards of one page each. A shard belongs to
one process, in all records at once, for as long as that process holds the lock on the shard's lock file. In each record
it holds six stripes of counters. A stripe belongs to one call at a time, so that every cell outside the head has one
writer and needs no lock.

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

# The header. The magic is written last; the boot id takes two cells. H_EVENTS: number of the latest transition.
H_MAGIC, H_VERSION, H_BOOT, H_RECORDS, H_EVENTS = 0, 1, 2, 4, 5
H_CLOCK = 6  # nanoseconds by which the processes' clock is ahead of the machine's, in a time namespace
# Written by the host's agent, with a fleet: number of this host, end of the fleet's lease, number of hosts, last sync.
H_HOST, H_FLEET_LEASE_UNTIL, H_HOSTS, H_LAST_SYNC = 8, 9, 10, 11
H_WAKE_AGENT = 12  # not 0: the agent must synchronize at once (any call)
H_DEGRADED_AT = 48  # when a process last noted that it has no shard or does not share a breaker (any process)
H_SHARD_OWNERS = 64  # process number of each shard's owner, 0 once the shard has been given up or reaped
H_SHARD_HEARTBEATS = 128  # when each shard's owner counted calls: if it reads another time, the file was written over
H_PROGRAMS, PROGRAM_CELLS = 192, 5  # name of the program of each shard's owner, UTF-8; written before the owner
EVENTS, EVENT_CELLS = 200, 40  # the latest transitions, in a ring that begins at the second page
HEADER = 17 * PAGE
# A transition: its number (written last), wall time in nanoseconds, record, states before * 8 + after, generation,
# reason.
E_NUMBER, E_TIME, E_RECORD, E_STATES, E_GENERATION, E_REASON, E_REASON_CELLS = 0, 1, 2, 3, 4, 8, 32

# The head of a record. Written under the ledger lock, except for the cells marked otherwise.
WORD = 0  # generation << 16 | version of the thresholds << 3 | state: one load reads all three
SINCE = 1  # when this state was entered
UNTIL = 2  # OPEN: when a probe is due; HALF_OPEN: end of the round; held by an operator: when the command expires
ORIGIN = 3  # start of the window: older slices do not count
SLICE = 4  # length of a slice
ROUNDS = 5  # failed rounds since the circuit was last closed
BULKHEAD_LIMIT = 6  # concurrent calls that a bulkhead admits, 0 without one (any process that creates one)
QUIET = 7  # WORD, if no outcome in the window requires an evaluation at a quick success; else 0 (any call)
QUIET_UNTIL = 8  # until then no quick success can open the circuit, with any value of QUIET (any call)
STREAK = 9  # number of the current streak of failures: a success after a failure begins a new one (any call)
STREAK_ACTIVE = 10  # not 0: the streak has failures (any call)
RETRY_AT = 11  # no probe before this: Retry-After of the dependency (any call)
WOULD_OPEN = 12  # not 0: METRICS_ONLY, and the circuit would be open
CONFIG_DIGEST = 13  # digest of the thresholds in the code, which later changes leave as it is
# WORD of a state that had no permit for a call at the last evaluation, and when to evaluate again (any call).
NO_PERMIT, NO_PERMIT_UNTIL = 14, 15
CHANGES = 16  # number of transitions, by state before * 8 + state after
# Probes that the round admits beyond its permits, for calls within its probes that needed their own (any call).
EXTRA_PERMITS = 64
# Written by the host's agent, except for the cells marked otherwise. A fleet state is its generation << 3 | code, 0
# before the first sync.
FLEET = 80  # the fleet state that the agent read last
FLEET_CONTROLLED = 81  # not 0: the fleet has set this state, and it alone may change it
PERMITS = 82  # permits of the round that the fleet has granted to this host
PROBE_REQUESTED = 83  # not 0: a rejected call could have been a probe (any call)
PUBLISH = 84  # not 0: generation of an operator's state that is not published yet
PUBLISH_THRESHOLDS = 85  # not 0: version of an operator's thresholds that are not published yet
FLEET_THRESHOLDS = 86  # version of the fleet's thresholds that are in force
EXEMPT = 87  # the fleet state from which an operator has exempted this host
REPORTED = 88  # requests, failures and slow calls that are reported to the fleet
PROBE_ENDED = 91  # not 0: a probe of the fleet's round has ended (any call)
# Written by the process that checks the dependency's health. HEALTH is 0 before the first check, 1 up, 2 down.
HEALTH, HEALTH_SINCE = 92, 93  # result of the last check, and when it was first that result
HEALTH_AT, HEALTH_TOOK = 94, 95  # end and duration of the last check
HEALTH_UNTIL = 96  # from then on the next check is overdue and the health unknown
PROBER_UNTIL = 97  # until then only health checks are probes
OPENED_AT = 98  # when the circuit began to reject calls; 0 while it admits all
FLEET_UNREACHABLE = 110  # not 0: the last reply of the fleet's server about this breaker was invalid
REASON, REASON_CELLS = 128, 32  # reason of the last transition, UTF-8
NAME, NAME_CELLS = 160, 16
SHARD_ALLOCATED = 192  # one cell per shard, written by its owner: not 0 once the shard has memory in this record
CONFIG, CONFIG_CELLS = 256, 128  # the thresholds in force, as JSON
# Laid out as a shard with one stripe, for the processes that have no shard. Written under the lock `host-counters`,
# except for ADMITTED of a probe and the cells of rounds, which are written under the ledger lock. STARTED stays 0.
HOST_COUNTERS = 384
# The last failure of all processes, written by any call in one copy: checksum (CRC-32) of the cells behind it, time,
# process number, HTTP status or 0; then as text the class, the name of the process and the first line of the message.
FAILED_CHECK, FAILED_AT, FAILED_BY, FAILED_STATUS = 476, 477, 478, 479
FAILED_TYPE, FAILED_TYPE_CELLS = 480, 7
FAILED_WORKER, FAILED_WORKER_CELLS = 487, 3
FAILED_MESSAGE, FAILED_MESSAGE_CELLS = 490, 22

# A shard: eight unused cells, then the stripes.
STRIPES, STRIPES_START, STRIPE_CELLS = 6, 8, 84

# A stripe.
STARTED = 0  # when the running call began, 0 between calls; plus `counters.PAUSED` while it waits for its caller
ADMITTED = 1  # WORD of the admission of the last call
FULL, SLOW, NEUTRAL, LATE, REJECTED, ELAPSED = 2, 3, 4, 5, 6, 7  # totals; ELAPSED in nanoseconds
STREAK_OF, STREAK_FAILURES = 8, 9  # number of a streak, and failures of this stripe in it
# Generation of a round, permits taken in it, and how each probe ended. One is running while TAKEN exceeds their sum.
ROUND, ROUND_TAKEN, ROUND_SUCCESSES, ROUND_FAILURES, ROUND_RETURNED = 10, 11, 12, 13, 14
# Histograms of durations. One store counts a call, so that no total is ever read lower than before.
SUCCESSES, FAILURES = 15, 29
BOUNDS = tuple(round(seconds * 1e9) for seconds in (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30))
SLICES, SLICE_CELLS = 10, 4  # slices in a window
WINDOW = 43  # of each slice: its start, and the totals of calls, failures and slow calls at its start
BARS = len(BOUNDS) + 1
assert SUCCESSES + BARS == FAILURES
assert FAILURES + BARS == WINDOW
assert WINDOW + SLICES * SLICE_CELLS <= STRIPE_CELLS
assert STRIPES_START + STRIPES * STRIPE_CELLS == PAGE
assert H_SHARD_OWNERS + SHARDS <= H_SHARD_HEARTBEATS
assert H_SHARD_HEARTBEATS + SHARDS <= H_PROGRAMS
assert H_PROGRAMS + SHARDS * PROGRAM_CELLS <= PAGE
assert PAGE + EVENTS * EVENT_CELLS <= HEADER
HOST_COUNTERS_CELLS = STRIPES_START + STRIPE_CELLS
assert CONFIG + CONFIG_CELLS <= HOST_COUNTERS
assert HOST_COUNTERS + HOST_COUNTERS_CELLS <= FAILED_CHECK
assert FAILED_MESSAGE + FAILED_MESSAGE_CELLS == PAGE

#: for codes of no state: a damaged WORD lets calls through until the damage is detected
_BY_CODE = (*STATES, State.CLOSED, State.CLOSED)


def state_of(word: int) -> State:
    """Return the state in a WORD."""
    return _BY_CODE[word & 7]


def generation_of(word: int) -> int:
    """Return the generation in a WORD."""
    return word >> 16


def is_record(head: memoryview) -> bool:
    """Return True if the head of a record is valid, as it is unless another program has written over it."""
    largest = (1 << 63) - (1 << 50)  # more than is ever written: a sum with a larger number may overflow its cell
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
    """Return True if a stripe is valid: each number can be incremented, and the sum of any of them fits a cell."""
    numbers = cells.tolist()
    return min(numbers) >= 0 and max(numbers[ADMITTED:]) < 1 << 62 and max(numbers[SUCCESSES:WINDOW]) < 1 << 57


def allocated_shards(cells: memoryview) -> list[int]:
    """Return the numbers of a record's shards that have memory. Others must not be touched."""
    return [
        shard for shard, allocated in enumerate(cells[SHARD_ALLOCATED : SHARD_ALLOCATED + SHARDS].tolist()) if allocated
    ]


def stripe_starts(cells: memoryview) -> Iterator[int]:
    """Yield the first cell of each stripe of a record."""
    for shard in allocated_shards(cells):
        start = (1 + shard) * PAGE + STRIPES_START
        yield from range(start, start + STRIPES * STRIPE_CELLS, STRIPE_CELLS)


def put_text(cells: memoryview, at: int, size: int, text: str) -> None:
    """Write text into `size` cells, truncated to fit."""
    data = cut_text(text, size * 8).encode()
    cells[at : at + size] = memoryview(data.ljust(size * 8, b"\0")).cast("q")


def cut_text(text: str, size: int) -> str:
    """Return the text truncated to `size` bytes of UTF-8."""
    return text.encode(errors="replace")[: max(size, 0)].decode(errors="ignore")


def get_text(cells: memoryview, at: int, size: int) -> str:
    """Read text that `put_text` wrote."""
    return cells[at : at + size].tobytes().rstrip(b"\0").decode(errors="replace")
