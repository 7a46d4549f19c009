"""Cleanup after dead workers: their counts go on, and their running calls become failures."""

from cb.failures import WORKER_ENDED
from cb.states import Outcome, State

from . import layout as at
from .counters import PAUSED, Counters
from .last_failure import Worker, write_last_failure
from .layout import generation_of, state_of


def adopt(cells: memoryview, shard: int, now: int, owner: int) -> int:
    """Take over a record's shard whose owner died: its totals go on, its running calls become failures.

    `owner` is the process number of the dead owner, 0 if unknown. Returns the number of those calls. The caller owns
    the shard.
    """
    head, reaped = cells[: at.PAGE], 0
    if not head[at.SHARD_ALLOCATED + shard]:
        return 0
    for counters in (Counters.in_stripe(cells, shard, stripe) for stripe in range(at.STRIPES)):
        mend(counters.cells)
        if counters.cells[at.STARTED] >= PAUSED:  # the dependency had answered
            counters.abandon()
            continue
        counters.started, counters.word = counters.cells[at.STARTED], counters.cells[at.ADMITTED]
        probe, permits = state_of(counters.word) is State.HALF_OPEN, counters.permits_held()
        counters.cells[at.ROUND_FAILURES] += permits
        # A probe that has ended is counted already; one without a permit never ran: its process died in between.
        if counters.started and (permits or not probe):
            _fail_call(counters, now, owner)
            reaped += 1
            head[at.NO_PERMIT] = 0
        counters.cells[at.STARTED] = 0
    return reaped


def mend(cells: memoryview) -> None:
    """Empty an invalid stripe: another program has written over it. The caller owns its shard."""
    if not at.is_stripe(cells):
        for cell in range(at.STRIPE_CELLS):
            cells[cell] = 0


def _fail_call(counters: Counters, now: int, owner: int) -> None:
    head = counters.head
    if generation_of(counters.word) != generation_of(head[at.WORD]):
        counters.count(at.LATE)
    elif state_of(counters.word) is State.DISABLED:
        counters.count(at.NEUTRAL)
    else:
        counters.record(now, Outcome.FAILURE, slow=False)
        head[at.STREAK_ACTIVE] = 1
        head[at.QUIET] = 0
        worker = Worker(owner)
        write_last_failure(head, now, worker, WORKER_ENDED, message=ended_text([str(worker)]))


def ended_text(workers: list[str]) -> str:
    """Return a sentence about workers that ended during calls, by process id; an empty one is unknown."""
    named = sorted({each for each in workers if each})
    if len(named) > 1:
        return f"workers {', '.join(named)} ended during calls"
    return f"worker {named[0]} ended during a call" if named else "a worker ended during a call"
