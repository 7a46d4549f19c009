"""Concurrent transactions of one order that could deadlock."""

import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import select, text

from gateway.trading.store import KeyTakenError, TradeStore
from gateway.trading.tables import exposure
from gateway.trading.trade import Move, Order, Side, TradeState
from servicekit.database import Database, DatabaseUnavailableError
from tests.support.waiting import until

ORDER = Order("u", "AAPL", 1, Side.BUY, Decimal(150))
LEASE = timedelta(seconds=10)


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)  # SQLite has one writer at a time
def test_retry_during_the_final_move_does_not_deadlock(database: Database) -> None:
    store = TradeStore(database)
    received = store.receive(ORDER, LEASE, lambda _: None, "k")
    trade = store.move(received, Move(TradeState.APPLYING))
    assert trade
    with ThreadPoolExecutor(2) as pool:
        with database.write() as other:  # another order of the user, so that both have to wait
            other.execute(select(exposure).with_for_update())
            again = pool.submit(store.receive, ORDER, LEASE, lambda _: None, "k")
            until(lambda: again.done() or waiting(database) == 1, "the order has come again")
            closed = pool.submit(store.move, trade, Move(TradeState.REJECTED, "c", "d"))
            until(lambda: waiting(database) == 2 - again.done(), "the trade is being closed")
        assert isinstance(again.exception(), KeyTakenError)
        assert closed.result()


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_transaction_of_a_stopped_process_is_ended(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("servicekit.database._LOCK_TIMEOUT_MS", 100)
    monkeypatch.setattr("servicekit.database._IDLE_TIMEOUT_MS", 1_000)
    TradeStore(database).receive(ORDER, LEASE, lambda _: None)
    with pytest.raises(DatabaseUnavailableError), database.write() as stopped:
        stopped.execute(select(exposure).with_for_update())

        with pytest.raises(DatabaseUnavailableError):
            TradeStore(database).receive(ORDER, LEASE, lambda _: None)
        until(lambda: received(database), "the server has ended what is stopped")


def received(database: Database) -> bool:
    try:
        return bool(TradeStore(database).receive(ORDER, LEASE, lambda _: None))
    except DatabaseUnavailableError:
        return False


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_many_writers_behind_a_stopped_process_wait_no_longer_than_one(
    database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("servicekit.database._LOCK_TIMEOUT_MS", 300)
    stopped = sqlite3.connect(tmp_path / "gateway.db", isolation_level=None)
    stopped.execute("BEGIN IMMEDIATE")
    begin = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(received, [database] * 8))

    assert answers == [False] * 8
    assert time.monotonic() - begin < 2 * 0.3 + 0.3
    stopped.close()


def waiting(database: Database) -> int:
    with database.read() as connection:
        return int(connection.scalar(text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")))
