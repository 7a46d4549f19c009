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

from .comparison_log import Comparison, ComparisonLog, Difference
from .dispatcher import HINDRANCES
from .errors import Unavailable
from .portfolio import Booked, Portfolio
from .store import Store
from .trade import State, Trade

log = Log(__name__)

#: trades that are compared at once
PAGE = 200
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
        store: Store,
        portfolio: Portfolio,
        results: ComparisonLog,
        tell: Callable[[Comparison], object],
        clock: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._portfolio = portfolio
        self._results = results
        self._tell = tell
        self._clock = clock
        self._walk = _Walk()
        self._reported: frozenset[Difference] = frozenset()
        self._hindered = False

    def turn(self) -> bool:
        """Compare the next page. Return whether there is more: else the next turn begins anew."""
        try:
            done = self._theirs() if self._walk.own_done else self._own()
        except _HINDRANCES as error:
            level = logging.DEBUG if self._hindered else logging.WARNING
            log.log(level, "trades cannot be compared with the portfolio: %s", error)
            self._hindered = True
            return False  # the walk goes on where it was
        self._hindered = False
        return not done

    def _own(self) -> bool:
        """Look up a page of the gateway's trades at the portfolio."""
        walk = self._walk
        trades = self._store.settled(walk.after, PAGE)  # first: what is settled here was settled there before
        booked = self._portfolio.booked([trade.trade_id for trade in trades]) if trades else {}
        found = [(trade, each) for trade in trades if (each := _compare(trade, booked.get(trade.trade_id)))]
        # An order that was refused may have been tried again since it was read.
        now = self._store.find_all([trade.trade_id for trade, _ in found]) if found else {}
        self._add(each for trade, each in found if now.get(trade.trade_id) == trade)
        walk.trades += len(trades)
        walk.own_done = len(trades) < PAGE
        walk.after = None if walk.own_done else trades[-1].trade_id
        return False

    def _theirs(self) -> bool:
        """Look up a page of the portfolio's trades at the gateway. Return whether the walk is done."""
        walk = self._walk
        booked = self._portfolio.booked_after(walk.after, PAGE)
        known = self._store.find_all([each.trade_id for each in booked])
        self._add(each for trade in booked if (each := _unknown(trade, known.get(trade.trade_id))))
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
        found = frozenset(result.examples)
        if found and found != self._reported:
            first = result.examples[0]
            log.error("%d trades differ between gateway and portfolio, such as %s", result.differences, first)
        self._reported = found
        if found:
            self._tell(result)


def _compare(trade: Trade, booked: Booked | None) -> Difference | None:
    """Return how a settled trade of the gateway differs from the portfolio's, None if they agree."""
    theirs = booked.status if booked else "unknown"
    difference = Difference(trade.trade_id, trade.state.value, theirs)
    if (trade.state is State.FILLED) != (theirs == "FILLED"):
        return difference
    if booked and booked.order != trade.order:
        return Difference(trade.trade_id, trade.state.value, f"{theirs}, with another order")
    # A verdict is kept for ever, so that a request which comes late meets it. Nothing was sent of the others.
    kept = trade.state is State.REJECTED or (trade.state is State.CANCELLED and trade.code != "never-sent")
    return difference if kept and booked is None else None


def _unknown(booked: Booked, known: Trade | None) -> Difference | None:
    """Return a trade that only the portfolio knows, if it was filled. What both know has been compared already."""
    if booked.status == "FILLED" and known is None:
        return Difference(booked.trade_id, "unknown", booked.status)
    return None
