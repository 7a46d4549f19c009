"""Compares the settled trades of gateway and portfolio in both directions. Differences are reported, not repaired.

The two databases agree unless one of them lost acknowledged writes or was restored from a backup. Each pass reads every
trade once. Pending trades are left out: the reconciler settles them.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

from cb import BulkheadFullError
from gateway.services.portfolio import BookedTrade, PortfolioClient
from servicekit import Log

from .comparison_log import Comparison, ComparisonLog, Difference
from .errors import DependencyError
from .outbox_relay import RETRYABLE_ERRORS
from .stored_trades import StoredTrade, StoredTrades
from .trade import TradeState

log = Log(__name__)

#: trades compared at once
PAGE = 200
#: status of a trade that one side does not have, and of one with a damaged row
UNKNOWN, DAMAGED = "unknown", "DAMAGED"
#: differences stored with their trade ids
EXAMPLES = 20
_RETRYABLE_ERRORS = (*RETRYABLE_ERRORS, BulkheadFullError, DependencyError)


@dataclass(slots=True)
class _Pass:
    """The progress of one comparison: the gateway's trades first, then the portfolio's."""

    gateway_done: bool = False
    after: str | None = None
    trades: int = 0
    differences: int = 0
    examples: tuple[Difference, ...] = ()


class Comparer:
    """Compares one page per `run_once`.

    Args:
        trades: the gateway's trades.
        portfolio: the client that searches the portfolio's trades.
        results: storage of the latest result.
        alert: called with each result that has differences.
        clock: returns the current time.
    """

    def __init__(
        self,
        trades: StoredTrades,
        portfolio: PortfolioClient,
        results: ComparisonLog,
        alert: Callable[[Comparison], object],
        clock: Callable[[], datetime],
    ) -> None:
        self._trades = trades
        self._portfolio = portfolio
        self._results = results
        self._alert = alert
        self._clock = clock
        self._pass = _Pass()
        self._logged: tuple[int, tuple[Difference, ...]] = (0, ())
        #: True if the last page could not be compared
        self.failing = False

    def run_once(self) -> bool:
        """Compare the next page. Return False at the end of a pass: the next page is the first of a new pass."""
        try:
            done = self._compare_portfolio() if self._pass.gateway_done else self._compare_gateway()
        except _RETRYABLE_ERRORS as error:
            level = logging.DEBUG if self.failing else logging.WARNING
            log.log(level, "trades cannot be compared with the portfolio: %s", error)
            self.failing = True
            return False  # the pass continues at the same page
        self.failing = False
        return not done

    def _compare_gateway(self) -> bool:
        """Look up a page of the gateway's trades at the portfolio."""
        current = self._pass
        trades = self._trades.settled(
            current.after, PAGE
        )  # first: a trade is settled at the portfolio before it is here
        booked = self._portfolio.booked([trade.trade_id for trade in trades]) if trades else {}
        found = [(trade, each) for trade in trades if (each := _compare(trade, booked.get(trade.trade_id)))]
        # A refused order may have been retried meanwhile.
        now = self._trades.find([trade.trade_id for trade, _ in found]) if found else {}
        self._add(each for trade, each in found if not trade.order or now.get(trade.trade_id) == trade)
        current.trades += len(trades)
        current.gateway_done = len(trades) < PAGE
        current.after = None if current.gateway_done else trades[-1].trade_id
        return False

    def _compare_portfolio(self) -> bool:
        """Look up a page of the portfolio's trades at the gateway. Return True if the pass is complete."""
        current = self._pass
        booked = self._portfolio.booked_after(current.after, PAGE)
        known = self._trades.find([each.trade_id for each in booked])
        # Trades known to both have been compared already, or are pending.
        self._add(Difference(each.trade_id, UNKNOWN, each.status) for each in booked if each.trade_id not in known)
        if len(booked) == PAGE:
            current.after = booked[-1].trade_id
            return False
        result = Comparison(self._clock(), current.trades, current.differences, current.examples)
        self._results.save(result)
        self._pass = _Pass()
        self._report(result)
        return True

    def _add(self, found: Iterator[Difference]) -> None:
        differences = tuple(found)
        self._pass.differences += len(differences)
        self._pass.examples = (self._pass.examples + differences)[:EXAMPLES]

    def _report(self, result: Comparison) -> None:
        found = result.differences, result.examples
        if result.differences and found != self._logged:
            log.error(
                "%d trades differ between gateway and portfolio, such as %s", result.differences, result.examples[0]
            )
        self._logged = found
        if result.differences:
            self._alert(result)


def _compare(trade: StoredTrade, booked: BookedTrade | None) -> Difference | None:
    """Return the difference between a settled trade and the portfolio's, None if they agree."""
    state, status = trade.state or DAMAGED, booked.status if booked else UNKNOWN
    if state == DAMAGED or status != _expected(trade):
        return Difference(trade.trade_id, state, status)
    if booked and booked.order != trade.order:
        return Difference(trade.trade_id, state, f"{status}, with another order")
    return None


def _expected(trade: StoredTrade) -> str:
    """Return the expected status at the portfolio, which keeps every verdict for ever."""
    if trade.state is TradeState.REFUSED or trade.code == "never-sent":
        return UNKNOWN
    return "VOID" if trade.state is TradeState.CANCELLED else str(trade.state)
