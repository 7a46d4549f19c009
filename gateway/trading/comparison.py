"""Compares the gateway's settled trades with the portfolio's, in both directions, and repairs nothing.

The two databases agree unless one of them has lost writes that it had acknowledged, or was restored from a backup. Each
walk reads every trade once. A trade that is pending is left out: the reconciler settles it.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

from cb import BulkheadFullError
from cb.log import Log
from gateway.services.portfolio import Booked, Portfolio

from .bookkeeping import Bookkeeping, Kept
from .comparison_log import Comparison, ComparisonLog, Difference
from .errors import Unavailable
from .outbox_relay import HINDRANCES
from .trade import State

log = Log(__name__)

#: trades that are compared at once
PAGE = 200
#: of a trade that one side does not have, or whose row makes no sense
UNKNOWN, DAMAGED = "unknown", "DAMAGED"
#: differences that are kept with their trade ids
EXAMPLES = 20
_HINDRANCES = (*HINDRANCES, BulkheadFullError, Unavailable)


@dataclass(slots=True)
class _Walk:
    """The progress of one comparison."""

    own_done: bool = False
    after: str | None = None
    trades: int = 0
    differences: int = 0
    examples: tuple[Difference, ...] = ()


class Comparer:
    """One page is a `turn`; a thread repeats it. `tell` is given each result that has differences."""

    def __init__(
        self,
        trades: Bookkeeping,
        portfolio: Portfolio,
        results: ComparisonLog,
        tell: Callable[[Comparison], object],
        clock: Callable[[], datetime],
    ) -> None:
        self._trades = trades
        self._portfolio = portfolio
        self._results = results
        self._tell = tell
        self._clock = clock
        self._walk = _Walk()
        self._reported: tuple[int, tuple[Difference, ...]] = (0, ())
        #: whether the last page could not be compared
        self.hindered = False

    def turn(self) -> bool:
        """Compare the next page. Return whether there is more: else the next turn begins anew."""
        try:
            done = self._theirs() if self._walk.own_done else self._own()
        except _HINDRANCES as error:
            level = logging.DEBUG if self.hindered else logging.WARNING
            log.log(level, "trades cannot be compared with the portfolio: %s", error)
            self.hindered = True
            return False  # the walk goes on where it was
        self.hindered = False
        return not done

    def _own(self) -> bool:
        """Look up a page of the gateway's trades at the portfolio."""
        walk = self._walk
        trades = self._trades.settled(walk.after, PAGE)  # first: what is settled here was settled there before
        booked = self._portfolio.booked([trade.trade_id for trade in trades]) if trades else {}
        found = [(trade, each) for trade in trades if (each := _compare(trade, booked.get(trade.trade_id)))]
        # An order that was refused may have been tried again since it was read.
        now = self._trades.find([trade.trade_id for trade, _ in found]) if found else {}
        self._add(each for trade, each in found if not trade.order or now.get(trade.trade_id) == trade)
        walk.trades += len(trades)
        walk.own_done = len(trades) < PAGE
        walk.after = None if walk.own_done else trades[-1].trade_id
        return False

    def _theirs(self) -> bool:
        """Look up a page of the portfolio's trades at the gateway. Return whether the walk is done."""
        walk = self._walk
        booked = self._portfolio.booked_after(walk.after, PAGE)
        known = self._trades.find([each.trade_id for each in booked])
        # What both know has been compared already, or is pending.
        self._add(Difference(each.trade_id, UNKNOWN, each.status) for each in booked if each.trade_id not in known)
        if len(booked) == PAGE:
            walk.after = booked[-1].trade_id
            return False
        result = Comparison(self._clock(), walk.trades, walk.differences, walk.examples)
        self._results.note(result)
        self._walk = _Walk()
        self._report(result)
        return True

    def _add(self, found: Iterator[Difference]) -> None:
        differences = tuple(found)
        self._walk.differences += len(differences)
        self._walk.examples = (self._walk.examples + differences)[:EXAMPLES]

    def _report(self, result: Comparison) -> None:
        found = result.differences, result.examples
        if result.differences and found != self._reported:
            log.error(
                "%d trades differ between gateway and portfolio, such as %s", result.differences, result.examples[0]
            )
        self._reported = found
        if result.differences:
            self._tell(result)


def _compare(trade: Kept, booked: Booked | None) -> Difference | None:
    """Return how a settled trade of the gateway differs from the portfolio's, None if they agree."""
    state, theirs = trade.state or DAMAGED, booked.status if booked else UNKNOWN
    if state == DAMAGED or theirs != _expected(trade):
        return Difference(trade.trade_id, state, theirs)
    if booked and booked.order != trade.order:
        return Difference(trade.trade_id, state, f"{theirs}, with another order")
    return None


def _expected(trade: Kept) -> str:
    """Return the portfolio's status of a trade. It keeps each verdict for ever, so that a late request meets it."""
    if trade.state is State.REFUSED or trade.code == "never-sent":
        return UNKNOWN
    return "VOID" if trade.state is State.CANCELLED else str(trade.state)
