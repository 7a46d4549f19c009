"""The comparison of gateway and portfolio: differences are reported, not repaired."""

import json
import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from flask import Flask
from sqlalchemy import text
from werkzeug.serving import make_server

import portfolio
from cb import BreakerConfig, CircuitBreaker
from cb.http import HTTPClient
from gateway.services.notification import databases_differ
from gateway.services.portfolio import PortfolioClient
from gateway.trading.comparer import EXAMPLES, Comparer
from gateway.trading.comparison_log import Comparison, ComparisonLog, Difference
from gateway.trading.store import TradeStore
from gateway.trading.stored_trades import StoredTrades
from gateway.trading.trade import Trade, TradeState
from portfolio.booking import Booking
from portfolio.booking import Side as PortfolioSide
from servicekit.database import Database
from tests.platform.trades.conftest import Clock, applying, moved, order, received, welcome
from tests.support.misbehaving import Server, answer

#: trades compared at once
PAGE = 2
CONFIG = Path(__file__).resolve().parents[3] / "config/config.yaml"


@pytest.fixture
def books(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Flask:
    """Return the portfolio service."""
    known = {
        "CONFIG": str(CONFIG),
        "STATE_DIR": str(tmp_path / "state"),
        "STATE__URL": "memory://",
        "SERVICES__PORTFOLIO__DATABASE": f"sqlite:///{tmp_path}/portfolio.db",
    }
    for name, value in known.items():
        monkeypatch.setenv(f"CB_{name}", value)
    return portfolio.create_app()


@pytest.fixture
def url(books: Flask) -> Iterator[str]:
    server = make_server("127.0.0.1", 0, books, threaded=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@dataclass
class Both:
    """The two services and the comparer."""

    store: TradeStore
    books: Flask
    comparer: Comparer
    results: ComparisonLog
    breaker: CircuitBreaker
    clock: Clock
    told: list[Comparison] = field(default_factory=list)

    def book(self, trade: Trade, **changes: object) -> None:
        """Book a trade at the portfolio."""
        known = trade.order
        facts = {"quantity": known.quantity, "price": known.price, **changes}
        booked = Booking(trade.trade_id, known.user_id, known.symbol, side=PortfolioSide(known.side), **facts)
        self.books.extensions["portfolios"].apply(booked)

    def change(self, statement: str) -> None:
        """Change rows of the portfolio's database."""
        database: Database = self.books.extensions["portfolios"]._store._database  # noqa: SLF001 - it has no public way in
        with database.write() as connection:
            connection.execute(text(statement))

    def void(self, trade: Trade) -> None:
        known = trade.order
        side = PortfolioSide(known.side)
        self.books.extensions["portfolios"].void(
            Booking(trade.trade_id, known.user_id, known.symbol, known.quantity, side, known.price)
        )

    def filled(self) -> Trade:
        trade = applying(self.store)
        self.book(trade)
        return moved(self.store, trade, TradeState.FILLED)

    def compare(self) -> Comparison:
        while self.comparer.run_once():
            pass
        result = self.results.latest()
        assert result
        return result


@pytest.fixture
def both(store: TradeStore, database: Database, clock: Clock, books: Flask, url: str) -> Both:
    breaker = CircuitBreaker("portfolio", BreakerConfig(failure_threshold=1, timeout=60))
    results, told = ComparisonLog(database), list[Comparison]()
    comparer = Comparer(
        StoredTrades(database), PortfolioClient(HTTPClient(url, 5, breaker)), results, told.append, clock
    )
    return Both(store, books, comparer, results, breaker, clock, told)


@pytest.fixture(autouse=True)
def two_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.trading.comparer.PAGE", PAGE)


def test_equal_databases_have_no_differences(both: Both, clock: Clock) -> None:
    for _ in range(5):
        both.filled()
    rejected = applying(both.store, order(10_000_000))
    both.book(rejected)
    moved(both.store, rejected, TradeState.REJECTED, "insufficient-funds")
    given_up = applying(both.store)
    both.void(given_up)
    moved(both.store, given_up, TradeState.CANCELLED, "voided")
    moved(both.store, received(both.store), TradeState.CANCELLED, "never-sent")
    moved(both.store, applying(both.store), TradeState.REFUSED, "not-sent")
    applying(both.store)  # pending trades are not compared

    assert both.compare() == Comparison(clock(), 9, 0, ())
    assert both.told == []


def test_fill_lost_by_the_portfolio_differs(both: Both) -> None:
    both.filled()
    lost = moved(both.store, applying(both.store), TradeState.FILLED)

    assert both.compare().examples == (Difference(lost.trade_id, "FILLED", "unknown"),)


def test_fill_lost_by_the_gateway_differs(both: Both, database: Database) -> None:
    lost = both.filled()
    with database.write() as connection:
        for table in ("journal", "trades"):
            connection.execute(text(f"DELETE FROM {table}"))

    assert both.compare().examples == (Difference(lost.trade_id, "unknown", "FILLED"),)


@pytest.mark.parametrize(
    ("state", "code"),
    [(TradeState.CANCELLED, "never-sent"), (TradeState.REFUSED, "not-sent"), (TradeState.REJECTED, "no-money")],
)
def test_trade_filled_only_at_the_portfolio_differs(both: Both, state: TradeState, code: str) -> None:
    trade = received(both.store)
    if state is not TradeState.CANCELLED:
        trade = moved(both.store, trade, TradeState.APPLYING)
    both.book(trade)
    moved(both.store, trade, state, code)

    assert both.compare().examples == (Difference(trade.trade_id, state.value, "FILLED"),)


def test_fill_of_another_order_differs(both: Both) -> None:
    trade = applying(both.store)
    both.book(trade, price=Decimal("149.99"))
    moved(both.store, trade, TradeState.FILLED)

    assert both.compare().examples == (Difference(trade.trade_id, "FILLED", "FILLED, with another order"),)


@pytest.mark.parametrize(
    ("state", "code"), [(TradeState.CANCELLED, "voided"), (TradeState.REJECTED, "insufficient-funds")]
)
def test_verdict_lost_by_the_portfolio_differs(both: Both, state: TradeState, code: str) -> None:
    trade = moved(both.store, applying(both.store), state, code)

    assert both.compare().examples == (Difference(trade.trade_id, state.value, "unknown"),)


@pytest.mark.parametrize(
    ("quantity", "state", "code", "status"),
    [
        (1, TradeState.REJECTED, "insufficient-funds", "VOID"),
        (1, TradeState.CANCELLED, "never-sent", "VOID"),
        (1_000_000, TradeState.CANCELLED, "voided", "REJECTED"),
    ],
)
def test_different_verdicts_differ(both: Both, quantity: int, state: TradeState, code: str, status: str) -> None:
    trade = received(both.store, order(quantity))
    if code != "never-sent":
        trade = moved(both.store, trade, TradeState.APPLYING)
    (both.void if status == "VOID" else both.book)(trade)
    moved(both.store, trade, state, code)

    assert both.compare().examples == (Difference(trade.trade_id, state.value, status),)


def test_rejection_lost_by_the_gateway_differs(both: Both, database: Database) -> None:
    lost = applying(both.store, order(1_000_000))
    both.book(lost)
    with database.write() as connection:
        for table in ("journal", "trades"):
            connection.execute(text(f"DELETE FROM {table}"))

    assert both.compare().examples == (Difference(lost.trade_id, "unknown", "REJECTED"),)


@pytest.mark.parametrize("damage", ["state = 'BOGUS'", "side = 'HOLD'"])
def test_damaged_row_of_the_gateway_differs_and_does_not_hide_others(
    both: Both, database: Database, damage: str
) -> None:
    damaged, *_ = [both.filled() for _ in range(3)]
    lost = moved(both.store, applying(both.store), TradeState.FILLED)
    with database.write() as connection:
        connection.execute(text(f"UPDATE trades SET {damage} WHERE trade_id = :id"), {"id": damaged.trade_id})

    assert set(both.compare().examples) == {
        Difference(damaged.trade_id, "DAMAGED", "FILLED"),
        Difference(lost.trade_id, "FILLED", "unknown"),
    }


@pytest.mark.parametrize(
    "damage",
    ["outcome = 'BOGUS'", "quantity = 'many'", "symbol = CAST(x'ff' AS TEXT)"],
)
def test_damaged_row_of_the_portfolio_differs_and_does_not_hide_others(both: Both, damage: str) -> None:
    damaged, *_ = [both.filled() for _ in range(3)]
    lost = moved(both.store, applying(both.store), TradeState.FILLED)
    both.change(f"UPDATE trades SET {damage} WHERE trade_id = '{damaged.trade_id}'")

    assert set(both.compare().examples) == {
        Difference(damaged.trade_id, "FILLED", "DAMAGED"),
        Difference(lost.trade_id, "FILLED", "unknown"),
    }


@pytest.mark.parametrize("trade_id", ["", "a \u00e9"])
def test_trade_with_an_invalid_id_differs_and_the_pass_continues(both: Both, trade_id: str) -> None:
    for _ in range(4):
        both.filled()
    both.change(
        f"INSERT INTO trades SELECT '{trade_id}', user_id, symbol, quantity, side, price, outcome, code, detail, "
        "applied_at FROM trades LIMIT 1"
    )

    assert both.compare().examples == (Difference(trade_id, "unknown", "DAMAGED"),)


@pytest.mark.parametrize(
    "trades",
    [
        None,
        [{"tradeId": 5, "status": "FILLED"}],
        [{"tradeId": "t-1", "status": "FILLED"}],  # not requested
        [{"tradeId": "t-1", "status": "GONE"}],
    ],
)
def test_invalid_response_of_the_portfolio_is_not_a_difference(
    both: Both, database: Database, portfolio: Server, trades: object
) -> None:
    both.filled()
    portfolio.act = answer(200, json.dumps({"trades": trades}))
    books = PortfolioClient(HTTPClient(portfolio.url, 5, CircuitBreaker("portfolio")))
    comparer = Comparer(StoredTrades(database), books, both.results, both.told.append, both.clock)

    assert not comparer.run_once()

    assert comparer.failing
    assert both.results.latest() is None


def test_repeated_trades_in_responses_do_not_repeat_the_pass_for_ever(
    both: Both, database: Database, portfolio: Server
) -> None:
    same = [{"tradeId": f"t-{number}", "status": "DAMAGED"} for number in range(PAGE)]
    portfolio.act = answer(200, json.dumps({"trades": same}))
    books = PortfolioClient(HTTPClient(portfolio.url, 5, CircuitBreaker("portfolio")))
    comparer = Comparer(StoredTrades(database), books, both.results, both.told.append, both.clock)

    assert [comparer.run_once() for _ in range(3)] == [True, True, False]
    assert comparer.failing


@pytest.mark.parametrize("examples", ["{", '[{"a": 1}]'])
def test_damaged_result_is_ignored_and_replaced(both: Both, database: Database, examples: str) -> None:
    both.filled()
    both.compare()
    with database.write() as connection:
        connection.execute(text("UPDATE comparisons SET examples = :examples"), {"examples": examples})

    assert both.results.latest() is None
    assert both.compare().trades == 1


def test_fill_that_is_pending_at_the_gateway_is_left_to_the_reconciler(both: Both) -> None:
    both.book(applying(both.store))

    assert both.compare().differences == 0


def test_refused_order_retried_during_the_comparison_does_not_differ(
    both: Both,
) -> None:
    trade = moved(both.store, applying(both.store, key="k1"), TradeState.REFUSED, "not-sent")

    @both.books.before_request
    def retry() -> None:  # during the request
        known = both.store.find(trade.trade_id)
        if known and known.state is TradeState.REFUSED:
            again = both.store.retry(known, timedelta(seconds=5), welcome)
            assert again
            both.book(moved(both.store, again, TradeState.APPLYING))

    assert both.compare().differences == 0


def test_differences_beyond_the_stored_examples_are_counted(both: Both) -> None:
    for _ in range(EXAMPLES + 3):
        moved(both.store, applying(both.store, order(1)), TradeState.FILLED)

    result = both.compare()

    assert (result.differences, len(result.examples)) == (EXAMPLES + 3, EXAMPLES)


def test_differences_are_logged_once_alerted_each_time_and_not_repaired(
    both: Both, caplog: pytest.LogCaptureFixture
) -> None:
    lost = moved(both.store, applying(both.store), TradeState.FILLED)

    with caplog.at_level(logging.ERROR):
        both.compare()
        both.compare()

    assert [record.message for record in caplog.records] == [
        f"1 trades differ between gateway and portfolio, such as {lost.trade_id}: gateway FILLED, portfolio unknown"
    ]
    first, second = map(databases_differ, both.told)
    assert first.event_id == second.event_id, "operators are told once: a message with a known id is dropped"
    assert both.store.find(lost.trade_id) == lost


def test_comparison_continues_at_the_same_page_after_an_outage_of_the_portfolio(both: Both) -> None:
    for _ in range(4):
        both.filled()
    assert both.comparer.run_once()
    both.breaker.control.force_open(reason="for the test")
    assert not both.comparer.run_once()
    assert both.results.latest() is None

    both.breaker.control.reset(reason="it is back")

    assert both.compare().trades == 4
