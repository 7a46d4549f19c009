"""Six planted bugs that would lose trades or book them twice; the invariants must find each of them.

`python -m tests.proofs.chaos.bugs BUG PACKAGE` runs a service like `python -m PACKAGE`, with the bug in it.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from importlib import import_module
from typing import Any
from uuid import uuid4

from gunicorn.app.wsgiapp import run  # type: ignore[import-untyped]  # it ships no types
from sqlalchemy import select, update
from sqlalchemy.exc import NoResultFound

from gateway.services.portfolio import PortfolioClient
from gateway.trading.errors import DependencyError
from gateway.trading.outbox import Outbox, Reader
from gateway.trading.outbox_relay import OutboxRelay
from gateway.trading.reconciler import Reconciler
from gateway.trading.store import TradeStore
from gateway.trading.trade import Move, Trade, TradeState
from portfolio.booking import Booking, Settlement, Verdict, decide
from portfolio.service import PortfolioService
from portfolio.store import AccountStore, Session
from portfolio.tables import accounts, entries


class CancelWithoutAsking(PortfolioClient):
    """Cancels a trade without the portfolio's consent."""

    def void(self, trade: Trade) -> Move:
        return Move(TradeState.CANCELLED, "given-up", f"no answer for {trade.trade_id}")


class TimeoutIsRejection(PortfolioClient):
    """Treats a missing response as a rejection."""

    def apply(self, trade: Trade, timeout: float | None = None) -> Move:
        try:
            return super().apply(trade, timeout)
        except DependencyError as error:
            if error.sent:
                return Move(TradeState.REJECTED, "dependency-failed", str(error)[:300])
            raise


class NewIdAtResend(Reconciler):
    """Sends a trade again under a new id."""

    def __init__(self, store: TradeStore, portfolio: PortfolioClient, **options: Any) -> None:
        super().__init__(store, _Renaming(portfolio), **options)  # type: ignore[arg-type]  # has the two methods used


class _Renaming:
    def __init__(self, portfolio: PortfolioClient) -> None:
        self._portfolio = portfolio

    def apply(self, trade: Trade, timeout: float | None = None) -> Move:
        return self._portfolio.apply(replace(trade, trade_id=str(uuid4())), timeout)

    def void(self, trade: Trade) -> Move:
        return self._portfolio.void(trade)


class SendBeforeMark(TradeStore):
    """Marks a trade as sent after sending it."""

    def move(self, trade: Trade, to: Move) -> Trade | None:
        if to.state is TradeState.APPLYING:
            return replace(trade, state=TradeState.APPLYING)
        return super().move(self._marked(trade), to)

    def lease(self, trade: Trade, length: timedelta) -> Trade | None:
        return super().lease(self._marked(trade), length)

    def _marked(self, trade: Trade) -> Trade:
        stored = self.find(trade.trade_id)
        if (
            trade.state is TradeState.APPLYING
            and stored
            and (stored.state, stored.version) == (TradeState.RECEIVED, trade.version)
        ):
            return super().move(stored, Move(TradeState.APPLYING)) or trade
        return trade


class MarkBeforeDelivery(OutboxRelay):
    """Marks entries as delivered before delivering them."""

    def __init__(self, outbox: Outbox, *readers: Any) -> None:
        super().__init__(_MarkingOutbox(outbox), *readers)  # type: ignore[arg-type]  # has the two methods used


class _MarkingOutbox:
    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox

    def unsent(self, reader: Reader, limit: int) -> Any:
        entries = self._outbox.unsent(reader, limit)
        if entries:
            self._outbox.mark(reader, entries)
        return entries

    def mark(self, *_: object) -> None:
        pass


class ReadThenInsert(PortfolioService):
    """Reads if a trade is known before booking it: two requests can read before either books."""

    def apply(self, booking: Booking) -> Verdict:
        with suppress(NoResultFound), self._store.reading() as session:  # type: ignore[attr-defined]  # of UnlockedStore
            known: Verdict = session.applied(booking.trade_id)[1]
            return known
        with self._store.session() as session:
            session.open_account(booking.user_id, self._opening_cash)
            cash, shares = session.lock(booking.user_id), session.shares(booking.user_id, booking.symbol)
            verdict = decide(booking, cash, shares)
            session.claim(booking, verdict)
            if verdict.outcome is Settlement.FILLED:
                session.book(booking, cash + booking.cash_change, shares + booking.share_change)
        return verdict


class UnlockedStore(AccountStore):
    """Opens sessions that read without waiting for writers."""

    @contextmanager
    def reading(self) -> Iterator[Session]:
        with self._database.read() as connection:
            yield Session(connection)


class SessionWithoutUniqueEntries(Session):
    """Books a trade twice, as a database without a unique key on the entries of a trade would."""

    def book(self, booking: Booking, cash: Decimal, shares: int) -> None:
        known = select(entries.c.trade_id).where(entries.c.trade_id == booking.trade_id)
        if self._connection.execute(known).first():
            of_user = accounts.c.user_id == booking.user_id
            self._connection.execute(update(accounts).where(of_user).values(cash=cash))
        else:
            super().book(booking, cash, shares)


#: by bug: the module, the name in it, and the replacement
BUGS: dict[str, list[tuple[str, str, type]]] = {
    "cancel-without-asking": [("gateway", "PortfolioClient", CancelWithoutAsking)],
    "new-id-at-resend": [("gateway", "Reconciler", NewIdAtResend)],
    "send-before-mark": [("gateway", "TradeStore", SendBeforeMark)],
    "timeout-is-rejection": [("gateway", "PortfolioClient", TimeoutIsRejection)],
    "read-then-insert": [
        ("portfolio", "PortfolioService", ReadThenInsert),
        ("portfolio", "AccountStore", UnlockedStore),
        ("portfolio.store", "Session", SessionWithoutUniqueEntries),
    ],
    "mark-before-delivery": [("gateway", "OutboxRelay", MarkBeforeDelivery)],
}


def main(bug: str, package: str) -> None:
    """Serve a package with a bug under gunicorn."""
    for module, name, replacement in BUGS[bug]:
        assert hasattr(import_module(module), name), f"{module} has no {name}"
        setattr(import_module(module), name, replacement)
    sys.argv = ["gunicorn", "-c", "config/gunicorn.conf.py", f"{package}:create_app()"]
    run()


if __name__ == "__main__":
    main(*sys.argv[1:])
