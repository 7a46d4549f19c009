"""Stored trades: each move happens once, by the lease holder, with its outbox entry."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal

import pytest

from gateway.trading.errors import RiskLimitError
from gateway.trading.exposure import Exposure
from gateway.trading.outbox import Outbox, Reader
from gateway.trading.store import KeyTakenError, TradeStore
from gateway.trading.trade import Move, Side, TradeState
from servicekit.database import Database
from tests.platform.trades.conftest import LEASE, Clock, applying, filled, moved, order, received, welcome


def seen(found: list[Exposure]) -> Exposure:
    return found[-1]


def test_stored_trade_is_found_unchanged(store: TradeStore) -> None:
    trade = received(store, order(price="150.1234"), key="k")

    assert store.find(trade.trade_id) == store.by_key("ann", "k") == trade
    assert (trade.state, trade.version, trade.seq, trade.status) == (TradeState.RECEIVED, 1, 1, "PENDING")


def test_each_move_is_in_the_outbox_in_order(store: TradeStore, database: Database) -> None:
    trade = moved(store, applying(store), TradeState.REJECTED, "insufficient-funds")

    entries = Outbox(database).unsent(Reader.AUDIT, 10)

    assert [(each.event_id, each.state, each.code) for each in entries] == [
        (f"{trade.trade_id}:1", TradeState.RECEIVED, None),
        (f"{trade.trade_id}:2", TradeState.APPLYING, None),
        (f"{trade.trade_id}:3", TradeState.REJECTED, "insufficient-funds"),
    ]


def test_trade_with_a_newer_version_is_not_changed(store: TradeStore, database: Database) -> None:
    trade = applying(store)
    after = moved(store, trade, TradeState.FILLED)

    assert store.move(trade, Move(TradeState.CANCELLED)) is None
    assert store.lease(trade, LEASE) is None

    assert store.find(trade.trade_id) == after
    assert len(Outbox(database).unsent(Reader.AUDIT, 10)) == 3


def test_disallowed_move_is_an_assertion_error(store: TradeStore) -> None:
    with pytest.raises(AssertionError, match="FILLED -> CANCELLED"):
        store.move(filled(store), Move(TradeState.CANCELLED))


def test_concurrent_moves_make_one(store: TradeStore) -> None:
    trade = applying(store)
    ends = [TradeState.FILLED, TradeState.REJECTED, TradeState.CANCELLED] * 4

    with ThreadPoolExecutor(12) as pool:
        after = list(pool.map(lambda state: store.move(trade, Move(state)), ends))

    assert len([each for each in after if each]) == 1
    assert store.find(trade.trade_id) in after


def test_one_of_two_concurrent_orders_gets_the_key(store: TradeStore) -> None:
    def place(_: int) -> bool:
        try:
            received(store, key="k")
        except KeyTakenError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        placed = list(pool.map(place, range(8)))

    assert placed.count(True) == 1
    assert len(store.of_user("ann", 10)) == 1


def test_keys_of_users_are_separate(store: TradeStore) -> None:
    first, second = received(store, key="k"), received(store, order(user_id="bob"), key="k")

    assert (store.by_key("ann", "k"), store.by_key("bob", "k")) == (first, second)


def test_taken_key_leaves_no_exposure(store: TradeStore) -> None:
    received(store, key="k")
    with pytest.raises(KeyTakenError):
        received(store, key="k")
    found: list[Exposure] = []

    store.receive(order(1), LEASE, found.append)

    assert seen(found) == Exposure(Decimal(11), Decimal(11 * 150))


def test_refused_order_is_retried_with_its_id(store: TradeStore, clock: Clock) -> None:
    refused = moved(store, applying(store, key="k"), TradeState.REFUSED, "not-sent")
    clock.pass_(100)

    again = store.retry(refused, LEASE, welcome)

    assert again
    assert (again.trade_id, again.state, again.seq) == (refused.trade_id, TradeState.RECEIVED, 4)
    assert (again.attempted_at, again.lease_until) == (clock(), clock() + LEASE)
    assert store.retry(refused, LEASE, welcome) is None


def test_retry_that_is_not_admitted_changes_nothing(store: TradeStore) -> None:
    refused = moved(store, applying(store), TradeState.REFUSED, "not-sent")

    def refuse(_: Exposure) -> None:
        raise RiskLimitError("limit", "too much", limit="1", value="2")

    with pytest.raises(RiskLimitError):
        store.retry(refused, LEASE, refuse)

    assert store.find(refused.trade_id) == refused


def test_pending_trade_is_claimed_after_its_lease(store: TradeStore, clock: Clock) -> None:
    filled(store)
    trade = applying(store)
    clock.pass_(4.9)
    assert store.claim(LEASE) is None

    clock.pass_(0.1)
    claimed = store.claim(LEASE)

    assert claimed
    assert (claimed.trade_id, claimed.lease_until) == (trade.trade_id, clock() + LEASE)
    assert store.claim(LEASE) is None
    assert store.move(trade, Move(TradeState.FILLED)) is None, "its first owner has lost it"


def test_trade_leased_before_the_clock_was_set_back_is_claimed(store: TradeStore, clock: Clock) -> None:
    trade = applying(store)
    clock.pass_(-3600)

    claimed = store.claim(LEASE)

    assert claimed
    assert (claimed.trade_id, claimed.lease_until) == (trade.trade_id, clock() + LEASE)
    assert store.claim(LEASE) is None


def test_host_with_a_late_clock_does_not_claim_leased_trades(store: TradeStore, clock: Clock) -> None:
    applying(store)
    clock.pass_(-2)

    assert store.claim(LEASE) is None


def test_trade_with_a_released_lease_is_claimed_at_once(store: TradeStore) -> None:
    trade = applying(store)

    assert store.lease(trade, timedelta())

    assert store.claim(LEASE)


@pytest.mark.parametrize("end", [TradeState.REJECTED, TradeState.CANCELLED, TradeState.REFUSED])
def test_order_that_was_not_booked_leaves_no_exposure(store: TradeStore, end: TradeState) -> None:
    moved(store, applying(store), end, "code")
    found: list[Exposure] = []

    store.receive(order(1), LEASE, found.append)

    assert seen(found) == Exposure(Decimal(1), Decimal(150))


def test_sold_shares_reduce_the_position_and_count_as_volume(store: TradeStore) -> None:
    filled(store, order(10))
    applying(store, order(4, Side.SELL))
    filled(store, order(5, Side.SELL))
    found: list[Exposure] = []

    store.receive(order(1), LEASE, found.append)

    assert seen(found) == Exposure(Decimal(10 - 5 + 1), Decimal(20 * 150)), "what is only to be sold is still there"


def test_volume_restarts_each_day(store: TradeStore, clock: Clock) -> None:
    filled(store)
    clock.pass_(24 * 3600)
    found: list[Exposure] = []

    store.receive(order(1), LEASE, found.append)

    assert seen(found) == Exposure(Decimal(11), Decimal(150))


def test_concurrent_orders_cannot_exceed_a_limit_together(store: TradeStore) -> None:
    def at_most_50(exposure: Exposure) -> None:
        if exposure.position > 50:
            raise RiskLimitError("position-limit", "too much", limit="50", value=str(exposure.position))

    def place(_: int) -> bool:
        try:
            store.receive(order(10), LEASE, at_most_50)
        except RiskLimitError:
            return False
        return True

    with ThreadPoolExecutor(12) as pool:
        placed = list(pool.map(place, range(12)))

    assert placed.count(True) == 5
    assert len(store.of_user("ann", 100)) == 5


def test_trades_of_a_user_are_listed_newest_first_and_page_by_page(store: TradeStore, clock: Clock) -> None:
    trades = []
    for number in range(5):
        trades.append(received(store, order(1 + number)))
        clock.pass_(number % 2)  # some at the same moment
    received(store, order(user_id="bob"))
    newest = sorted(trades, key=lambda each: (each.created_at, each.trade_id), reverse=True)

    first = store.of_user("ann", 2)
    rest = store.of_user("ann", 10, (first[-1].created_at, first[-1].trade_id))

    assert first + rest == newest
