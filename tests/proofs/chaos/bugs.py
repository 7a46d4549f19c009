"""Six bugs that would lose trades or book them twice, planted to see that the invariants find them.

`python -m tests.proofs.chaos.bugs BUG PACKAGE` runs a service as `python -m PACKAGE` does, with the bug in it.
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

from gateway.services.portfolio import Portfolio
from gateway.trading.errors import Unavailable
from gateway.trading.outbox import Journal, Reader
from gateway.trading.outbox_relay import Dispatcher
from gateway.trading.reconciler import Reconciler
from gateway.trading.store import Store as Trades
from gateway.trading.trade import State, Trade, Verdict
from portfolio.order import Order, Outcome, judge
from portfolio.order import Verdict as Judgement
from portfolio.service import Portfolios
from portfolio.store import Session, Store
from portfolio.tables import accounts, entries


class CancelWithoutAsking(Portfolio):
    """Gives a trade up without the portfolio's consent."""

    def void(self, trade: Trade) -> Verdict:
        return Verdict(State.CANCELLED, "given-up", f"no answer for {trade.trade_id}")


class TimeoutIsRejection(Portfolio):
    """Takes no answer for a no."""

    def apply(self, trade: Trade, timeout: float | None = None) -> Verdict:
        try:
            return super().apply(trade, timeout)
        except Unavailable as error:
            if error.sent:
                return Verdict(State.REJECTED, "dependency-failed", str(error)[:300])
            raise


class NewIdAtResend(Reconciler):
    """Sends a trade again as if it were another one."""

    def __init__(self, store: Trades, asked: Portfolio, **options: Any) -> None:
        super().__init__(store, _Renaming(asked), **options)  # type: ignore[arg-type]  # it asks as a Portfolio does


class _Renaming:
    def __init__(self, asked: Portfolio) -> None:
        self._asked = asked

    def apply(self, trade: Trade, timeout: float | None = None) -> Verdict:
        return self._asked.apply(replace(trade, trade_id=str(uuid4())), timeout)

    def void(self, trade: Trade) -> Verdict:
        return self._asked.void(trade)


class SendBeforeMark(Trades):
    """Marks a trade as sent only after it was sent."""

    def move(self, trade: Trade, to: Verdict) -> Trade | None:
        if to.state is State.APPLYING:
            return replace(trade, state=State.APPLYING)
        return super().move(self._marked(trade), to)

    def lease(self, trade: Trade, length: timedelta) -> Trade | None:
        return super().lease(self._marked(trade), length)

    def _marked(self, trade: Trade) -> Trade:
        stored = self.find(trade.trade_id)
        if (
            trade.state is State.APPLYING
            and stored
            and (stored.state, stored.version) == (State.RECEIVED, trade.version)
        ):
            return super().move(stored, Verdict(State.APPLYING)) or trade
        return trade


class MarkBeforeTold(Dispatcher):
    """Remembers that a reader was told before it is."""

    def __init__(self, journal: Journal, *readers: Any) -> None:
        super().__init__(_Hasty(journal), *readers)  # type: ignore[arg-type]  # it is asked as a Journal is


class _Hasty:
    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def unsent(self, reader: Reader, limit: int) -> Any:
        entries = self._journal.unsent(reader, limit)
        if entries:
            self._journal.mark(reader, entries)
        return entries

    def mark(self, *_: object) -> None:
        pass


class ReadThenInsert(Portfolios):
    """Looks whether a trade is known, and books it if it is not: two may look before either books."""

    def apply(self, order: Order) -> Judgement:
        with suppress(NoResultFound), self._store.looking() as session:  # type: ignore[attr-defined]  # of Looking
            known: Judgement = session.applied(order.trade_id)[1]
            return known
        with self._store.session() as session:
            session.open_account(order.user_id, self._opening_cash)
            cash, shares = session.lock(order.user_id), session.shares(order.user_id, order.symbol)
            verdict = judge(order, cash, shares)
            session.claim(order, verdict)
            if verdict.outcome is Outcome.FILLED:
                session.book(order, cash + order.cash_change, shares + order.share_change)
        return verdict


class Looking(Store):
    """Lets one look without waiting for those who write."""

    @contextmanager
    def looking(self) -> Iterator[Session]:
        with self._database.read() as connection:
            yield Session(connection)


class NothingUnique(Session):
    """Books an order again, as it can where the database does not know that a trade has only one set of entries."""

    def book(self, order: Order, cash: Decimal, shares: int) -> None:
        known = select(entries.c.trade_id).where(entries.c.trade_id == order.trade_id)
        if self._connection.execute(known).first():
            of_user = accounts.c.user_id == order.user_id
            self._connection.execute(update(accounts).where(of_user).values(cash=cash))
        else:
            super().book(order, cash, shares)


#: what is replaced in which module, by the name of the bug
BUGS: dict[str, list[tuple[str, str, type]]] = {
    "cancel-without-asking": [("gateway", "Portfolio", CancelWithoutAsking)],
    "new-id-at-resend": [("gateway", "Reconciler", NewIdAtResend)],
    "send-before-mark": [("gateway", "Store", SendBeforeMark)],
    "timeout-is-rejection": [("gateway", "Portfolio", TimeoutIsRejection)],
    "read-then-insert": [
        ("portfolio", "Portfolios", ReadThenInsert),
        ("portfolio", "Store", Looking),
        ("portfolio.store", "Session", NothingUnique),
    ],
    "mark-before-told": [("gateway", "Dispatcher", MarkBeforeTold)],
}


def main(bug: str, package: str) -> None:
    """Serve a package with a bug, as `servicekit.server` serves it without."""
    for module, name, replacement in BUGS[bug]:
        assert hasattr(import_module(module), name), f"{module} has no {name} any more"
        setattr(import_module(module), name, replacement)
    sys.argv = ["gunicorn", "-c", "config/gunicorn.conf.py", f"{package}:create_app()"]
    run()


if __name__ == "__main__":
    main(*sys.argv[1:])
