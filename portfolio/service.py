"""What the portfolio does: apply each trade once, and tell what a user owns."""

from collections.abc import Callable
from decimal import Decimal

from cb.pickling import PortableError

from .order import Order, Outcome, Verdict, judge
from .store import Portfolio, Store, Stored

VOID = Verdict(Outcome.VOID, "voided", "the trade was given up before it was booked")


class UnknownUser(PortableError):
    def __init__(self, user_id: str) -> None:
        super().__init__(user_id)
        self.user_id = user_id

    def __str__(self) -> str:
        return f"{self.user_id} has no account"


class TradeIdReused(PortableError):
    def __init__(self, trade_id: str) -> None:
        super().__init__(trade_id)
        self.trade_id = trade_id

    def __str__(self) -> str:
        return f"trade {self.trade_id} is another order"


class Portfolios:
    """All accounts."""

    def __init__(self, store: Store, opening_cash: Decimal) -> None:
        self._store = store
        self._opening_cash = opening_cash

    def open(self, user_id: str) -> None:
        """Open an account with the opening cash, unless the user has one."""
        with self._store.session() as session:
            session.open_account(user_id, self._opening_cash)

    def find(self, user_id: str) -> Portfolio:
        """Return what a user owns. Raises UnknownUser."""
        portfolio = self._store.portfolio(user_id)
        if portfolio is None:
            raise UnknownUser(user_id)
        return portfolio

    def apply(self, order: Order) -> Verdict:
        """Book an order once, whoever sends it how often; a rejection stands as well. Raises TradeIdReused.

        A user's first order opens the account.
        """
        return self._settle(order, judge)

    def void(self, order: Order) -> Verdict:
        """See to it that an order which has not been booked never will be. Raises TradeIdReused.

        Returns what became of it: VOID, or what it was before. An order that comes later finds it void.
        """
        return self._settle(order, lambda *_: VOID)

    def settled(self, trade_ids: list[str] | None, after: str | None, limit: int) -> list[Stored]:
        """Return settled trades as they are stored: those of some ids, or of all those behind one, by id."""
        return self._store.settled(trade_ids, after, limit)

    def _settle(self, order: Order, judge: Callable[[Order, Decimal, int], Verdict]) -> Verdict:
        with self._store.session() as session:
            session.open_account(order.user_id, self._opening_cash)
            cash = session.lock(order.user_id)
            shares = session.shares(order.user_id, order.symbol)
            verdict = judge(order, cash, shares)
            if not session.claim(order, verdict):
                known, verdict = session.applied(order.trade_id)
                if known != order:
                    raise TradeIdReused(order.trade_id)
            elif verdict.outcome is Outcome.FILLED:
                session.book(order, cash + order.cash_change, shares + order.share_change)
        return verdict
