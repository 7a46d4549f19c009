"""Trades with an expired lease: never lost, and never cancelled without the portfolio's verdict."""

import json
import socket

import pytest
from sqlalchemy import text

from cb import CircuitBreaker
from gateway.trading.reconciler import Reconciler
from gateway.trading.store import TradeStore
from gateway.trading.trade import Move, Trade, TradeState
from servicekit.database import Database
from tests.platform.trades.conftest import Clock, applying, filled, received, says
from tests.support.misbehaving import Act, Server, answer, hang_up

FILLED = Move(TradeState.FILLED)


def asked(portfolio: Server) -> list[tuple[str, str]]:
    """Return the resource and trade id of each request."""
    parts = [request.partition("\r\n\r\n") for request in portfolio.requests]
    return [(head.split()[1].rpartition("/")[2], json.loads(body)["tradeId"]) for head, _, body in parts]


def after(store: TradeStore, trade: Trade) -> tuple[TradeState, str | None]:
    found = store.find(trade.trade_id)
    assert found
    return found.state, found.code


def test_leased_trades_are_left_alone(store: TradeStore, reconciler: Reconciler) -> None:
    filled(store)
    trade = applying(store)

    assert reconciler.run_once() is False

    assert after(store, trade) == (TradeState.APPLYING, None)


def test_unsent_trade_is_cancelled_without_a_request(
    store: TradeStore, clock: Clock, reconciler: Reconciler, portfolio: Server
) -> None:
    trade = received(store)
    clock.pass_(5)

    assert reconciler.run_once() is True

    assert after(store, trade) == (TradeState.CANCELLED, "never-sent")
    assert asked(portfolio) == []


def test_damaged_trade_does_not_block_others(
    database: Database, store: TradeStore, clock: Clock, reconciler: Reconciler
) -> None:
    damaged = received(store)
    clock.pass_(1)
    fine = received(store)
    with database.write() as connection:
        connection.execute(text("UPDATE trades SET side = 'HOLD' WHERE trade_id = :id"), {"id": damaged.trade_id})
    clock.pass_(5)

    for _ in range(2):
        reconciler.run_once()

    assert after(store, fine) == (TradeState.CANCELLED, "never-sent")
    assert store.of_user("ann", 10) == [store.find(fine.trade_id)]


@pytest.mark.parametrize(
    ("status", "members", "end"),
    [
        (201, {"status": "FILLED"}, (TradeState.FILLED, None)),
        (409, {"tradeStatus": "REJECTED", "code": "no-cash", "detail": "none"}, (TradeState.REJECTED, "no-cash")),
        (409, {"tradeStatus": "VOID", "code": "voided", "detail": "given up"}, (TradeState.CANCELLED, "voided")),
    ],
)
def test_pending_trade_is_resent_with_its_id(
    store: TradeStore,
    clock: Clock,
    reconciler: Reconciler,
    portfolio: Server,
    *,
    status: int,
    members: dict[str, str],
    end: tuple[TradeState, str | None],
) -> None:
    portfolio.act = says(portfolio, status, **members)
    trade = applying(store)
    clock.pass_(5)

    assert reconciler.run_once() is True

    assert asked(portfolio) == [("positions", trade.trade_id)]
    assert after(store, trade) == end
    assert reconciler.run_once() is False


@pytest.mark.parametrize(
    ("members", "end"),
    [
        ({"status": "VOID", "code": "voided", "detail": "given up"}, (TradeState.CANCELLED, "voided")),
        ({"status": "FILLED"}, (TradeState.FILLED, None)),
        ({"status": "REJECTED", "code": "no-cash", "detail": "none"}, (TradeState.REJECTED, "no-cash")),
    ],
)
def test_old_trade_gets_the_verdict_of_the_void(
    store: TradeStore,
    clock: Clock,
    reconciler: Reconciler,
    portfolio: Server,
    *,
    members: dict[str, str],
    end: tuple[TradeState, str | None],
) -> None:
    portfolio.act = says(portfolio, 200, **members)
    trade = applying(store)
    clock.pass_(30)

    reconciler.run_once()

    assert asked(portfolio) == [("voids", trade.trade_id)]
    assert after(store, trade) == end


@pytest.mark.parametrize(
    "act",
    [
        hang_up,
        answer(500, "{}"),
        answer(404, "{}"),
        answer(409, '{"code": "conflict"}'),
        answer(200, '{"tradeId": "another", "status": "VOID", "code": "voided", "detail": "x"}'),
        answer(409, '{"tradeId": "another", "tradeStatus": "REJECTED", "code": "no-cash", "detail": "x"}'),
    ],
)
@pytest.mark.parametrize("age", [5, 1000])
def test_trade_without_a_valid_response_stays_pending(
    store: TradeStore, clock: Clock, reconciler: Reconciler, portfolio: Server, *, act: Act, age: float
) -> None:
    portfolio.act = act
    trade = applying(store)
    clock.pass_(age)

    reconciler.run_once()

    assert after(store, trade) == (TradeState.APPLYING, None)
    assert reconciler.run_once() is False, "not again at once"
    clock.pass_(1)
    portfolio.act = says(portfolio, 200 if age > 30 else 201, status="FILLED")
    reconciler.run_once()
    assert after(store, trade) == (TradeState.FILLED, None)


def test_open_circuit_ends_the_run_without_a_request(
    store: TradeStore, clock: Clock, reconciler: Reconciler, portfolio: Server, breaker: CircuitBreaker
) -> None:
    for _ in range(5):
        applying(store)
    clock.pass_(5)
    breaker.control.force_open(reason="for the test")

    assert reconciler.run_once() is False

    assert asked(portfolio) == []


def test_long_outage_of_the_portfolio_is_logged_once(
    store: TradeStore,
    clock: Clock,
    reconciler: Reconciler,
    portfolio: Server,
    breaker: CircuitBreaker,
    *,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def look(times: int) -> list[str]:
        caplog.clear()
        for _ in range(times):
            clock.pass_(1)
            reconciler.run_once()
        return [record.message for record in caplog.records if record.levelname == "WARNING"]

    for _ in range(3):
        applying(store)
    clock.pass_(5)
    breaker.control.force_open(reason="for the test")

    assert len(look(9)) == 1
    breaker.control.reset(reason="it is back")
    portfolio.act = says(portfolio, 201, status="FILLED")
    assert look(1) == []
    breaker.control.force_open(reason="again")
    assert len(look(9)) == 1, "that it is away again is news"


def test_trade_settled_meanwhile_keeps_its_state(
    store: TradeStore, clock: Clock, reconciler: Reconciler, portfolio: Server
) -> None:
    trade = applying(store)
    clock.pass_(5)

    def fill_meanwhile(connection: socket.socket) -> None:
        current = store.find(trade.trade_id)
        assert current
        filled_by_another = store.move(current, FILLED)
        assert filled_by_another
        says(portfolio, 409, tradeStatus="VOID", code="voided", detail="x")(connection)

    portfolio.act = fill_meanwhile
    reconciler.run_once()

    assert after(store, trade) == (TradeState.FILLED, None)
