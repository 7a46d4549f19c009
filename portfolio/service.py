"""Accounts and the trades booked on them: each trade id is settled once."""

from collections.abc import Callable
from decimal import Decimal

from servicekit import PortableError

from .booking import Booking, Settlement, Verdict, decide
from .store import AccountStore, Portfolio, StoredRow

VOID = Verdict(Settlement.VOID, "voided", "the trade was voided before it was booked")


class UnknownUserError(PortableError):
    def __init__(self, user_id: str) -> None:
        super().__init__(user_id)
        self.user_id = user_id

    def __str__(self) -> str:
        return f"{self.user_id} has no account"


class TradeIdReusedError(PortableError):
    def __init__(self, trade_id: str) -> None:
        super().__init__(trade_id)
        self.trade_id = trade_id

    def __str__(self) -> str:
        return f"trade {self.trade_id} is another order"


class PortfolioService:
    """All accounts."""

    def __init__(self, store: AccountStore, opening_cash: Decimal) -> None:
        self._store = store
        self._opening_cash = opening_cash

    def open(self, user_id: str) -> None:
        """Open an account with the opening cash, unless the user has one."""
        with self._store.session() as session:
            session.open_account(user_id, self._opening_cash)

    def find(self, user_id: str) -> Portfolio:
        """Return a user's cash and positions. Raises UnknownUserError."""
        portfolio = self._store.portfolio(user_id)
        if portfolio is None:
            raise UnknownUserError(user_id)
        return portfolio

    def apply(self, booking: Booking) -> Verdict:
        """Book a trade once, however often it is sent. The first verdict is final. Raises TradeIdReusedError.

        A user's first trade opens the account.
        """
        return self._settle(booking, decide)

    def void(self, booking: Booking) -> Verdict:
        """Void a trade, so that it is never booked. Raises TradeIdReusedError.

        Returns VOID, or the verdict if the trade was settled before. A later `apply` returns VOID.
        """
        return self._settle(booking, lambda *_: VOID)

    def settled(self, trade_ids: list[str] | None, after: str | None, limit: int) -> list[StoredRow]:
        """Return settled trades as stored, by id: those of some ids, or at most `limit` with ids above `after`."""
        return self._store.settled(trade_ids, after, limit)

    def _settle(self, booking: Booking, decide: Callable[[Booking, Decimal, int], Verdict]) -> Verdict:
        with self._store.session() as session:
            session.open_account(booking.user_id, self._opening_cash)
            cash = session.lock(booking.user_id)
            shares = session.shares(booking.user_id, booking.symbol)
            verdict = decide(booking, cash, shares)
            if not session.claim(booking, verdict):
                known, verdict = session.applied(booking.trade_id)
                if known != booking:
                    raise TradeIdReusedError(booking.trade_id)
            elif verdict.outcome is Settlement.FILLED:
                session.book(booking, cash + booking.cash_change, shares + booking.share_change)
        return verdict
