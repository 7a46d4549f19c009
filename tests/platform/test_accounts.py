"""The effect of a trade on an account, once per trade id."""

import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import text

import portfolio
from cb import ConfigError
from portfolio.booking import CASH_LIMIT, Booking, Settlement, Side
from portfolio.service import PortfolioService, TradeIdReusedError, UnknownUserError
from portfolio.store import AccountStore
from servicekit.database import Database, DatabaseUnavailableError
from servicekit.migrations import migrate


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "data" / "portfolio.db"


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = migrate(Database(database_url), portfolio)
    yield database
    database.close()


@pytest.fixture
def portfolios(database: Database) -> PortfolioService:
    return PortfolioService(AccountStore(database), Decimal(1000))


def order(trade_id: str, quantity: int, side: Side = Side.BUY, price: str = "100", *, user_id: str = "ann") -> Booking:
    return Booking(trade_id, user_id, "AAPL", quantity, side, Decimal(price))


def in_parallel(count: int, act: Callable[[int], object]) -> list[object]:
    """Return the results or errors of `act(0)`, `act(1)`, ... started at the same moment."""
    results: list[object] = [None] * count
    barrier = threading.Barrier(count)

    def run(number: int) -> None:
        barrier.wait()
        try:
            results[number] = act(number)
        except Exception as error:  # noqa: BLE001 - the test looks at it
            results[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def entries(database: Database) -> list[tuple[str, str, int]]:
    with database.read() as connection:
        rows = connection.execute(text("SELECT holder, asset, amount FROM entries")).all()
    return sorted((holder, asset, amount) for holder, asset, amount in rows)


def test_first_order_opens_an_account_and_moves_cash_and_shares(
    portfolios: PortfolioService, database: Database
) -> None:
    verdict = portfolios.apply(order("t1", 3, price="100.0001"))

    assert verdict.outcome is Settlement.FILLED
    owned = portfolios.find("ann")
    assert (owned.cash, owned.positions) == (Decimal("699.9997"), {"AAPL": 3})
    assert entries(database) == [
        ("@market", "$", 3_000_003),
        ("@market", "AAPL", -30_000),
        ("ann", "$", -3_000_003),
        ("ann", "AAPL", 30_000),
    ]


def test_sale_of_all_shares_returns_the_cash_and_leaves_no_position(portfolios: PortfolioService) -> None:
    portfolios.apply(order("t1", 3))

    portfolios.apply(order("t2", 3, Side.SELL, "110"))

    owned = portfolios.find("ann")
    assert (owned.cash, owned.positions) == (Decimal(1030), {})


def test_order_beyond_the_cash_is_rejected_finally(portfolios: PortfolioService, database: Database) -> None:
    rejected = portfolios.apply(order("t1", 11))

    assert (rejected.outcome, rejected.code) == (Settlement.REJECTED, "insufficient-funds")
    portfolios.apply(order("t2", 10))
    portfolios.apply(order("t3", 10, Side.SELL, "200"))
    assert portfolios.apply(order("t1", 11)) == rejected, "the cash is there now, the answer stands"
    assert len(entries(database)) == 8


def test_sale_of_more_than_is_held_is_rejected(portfolios: PortfolioService) -> None:
    portfolios.apply(order("t1", 1))

    verdict = portfolios.apply(order("t2", 2, Side.SELL))

    assert (verdict.outcome, verdict.code) == (Settlement.REJECTED, "insufficient-position")
    assert portfolios.find("ann").positions == {"AAPL": 1}


def test_sale_beyond_what_an_account_may_hold_is_rejected(portfolios: PortfolioService) -> None:
    portfolios.apply(order("t1", 1_000_000, price="0.0001"))

    verdict = portfolios.apply(order("t2", 1_000_000, Side.SELL, "9999999999.9999"))

    assert (verdict.outcome, verdict.code) == (Settlement.REJECTED, "balance-limit")
    assert portfolios.find("ann").cash < CASH_LIMIT


def test_retried_trade_returns_the_same_verdict_and_changes_nothing(
    portfolios: PortfolioService, database: Database
) -> None:
    first = portfolios.apply(order("t1", 3))

    assert portfolios.apply(order("t1", 3)) == first
    assert portfolios.find("ann").positions == {"AAPL": 3}
    assert len(entries(database)) == 4


@pytest.mark.parametrize(
    "other",
    [order("t1", 2), order("t1", 1, Side.SELL), order("t1", 1, price="99"), order("t1", 1, user_id="bob")],
    ids=["quantity", "side", "price", "user"],
)
def test_trade_id_of_another_order_is_refused_and_changes_nothing(portfolios: PortfolioService, other: Booking) -> None:
    portfolios.apply(order("t1", 1))

    with pytest.raises(TradeIdReusedError):
        portfolios.apply(other)

    assert portfolios.find("ann").positions == {"AAPL": 1}
    with pytest.raises(UnknownUserError):
        portfolios.find("bob")


def test_concurrent_requests_with_one_trade_id_book_it_once(portfolios: PortfolioService, database: Database) -> None:
    verdicts = in_parallel(8, lambda _: portfolios.apply(order("t1", 1)))

    assert verdicts == [portfolios.apply(order("t1", 1))] * 8
    assert portfolios.find("ann").cash == 900
    assert len(entries(database)) == 4


def test_concurrent_orders_of_an_account_never_overdraw_it(portfolios: PortfolioService) -> None:
    verdicts = in_parallel(16, lambda number: portfolios.apply(order(f"t{number}", 1)))

    outcomes = [getattr(verdict, "outcome", verdict) for verdict in verdicts]
    assert sorted(map(str, outcomes)) == ["FILLED"] * 10 + ["REJECTED"] * 6
    assert portfolios.find("ann").cash == 0


def test_user_who_never_traded_is_unknown(portfolios: PortfolioService) -> None:
    with pytest.raises(UnknownUserError):
        portfolios.find("nobody")


def test_account_opened_again_keeps_its_cash(portfolios: PortfolioService) -> None:
    portfolios.apply(order("t1", 1))

    portfolios.open("ann")

    assert portfolios.find("ann").cash == 900


def test_reader_does_not_wait_for_a_writer(file: Path) -> None:
    store = AccountStore(migrate(Database(f"sqlite:///{file}"), portfolio))
    with store.session() as session:
        session.open_account("ann", Decimal(1))

        assert store.portfolio("ann") is None, "not committed yet, and not waited for"


def test_database_file_is_private(file: Path) -> None:
    portfolios = PortfolioService(AccountStore(migrate(Database(f"sqlite:///{file}"), portfolio)), Decimal(1000))
    portfolios.open("ann")

    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in file.parent.iterdir()}
    assert set(modes.values()) == {0o600}


def test_invalid_database_file_is_reported_as_down(tmp_path: Path) -> None:
    file = tmp_path / "portfolio.db"
    file.write_text("this is not a database, but it is long enough to be looked at" * 20)

    with pytest.raises(DatabaseUnavailableError):
        AccountStore(migrate(Database(f"sqlite:///{file}"), portfolio))


@pytest.mark.parametrize("url", ["mysql://root:secret@host/db", "sqlite://", "sqlite:///", "", "portfolio.db"])
def test_database_url_of_another_kind_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ConfigError, match="database must be sqlite:///FILE or postgresql") as caught:
        Database(url)

    assert "secret" not in str(caught.value)


def test_many_workers_that_start_at_once_on_a_new_database_all_start(file: Path) -> None:
    start = (
        "import sys; from decimal import Decimal; from servicekit.database import Database;"
        "import portfolio; from servicekit.migrations import migrate;"
        "from portfolio.service import PortfolioService; from portfolio.store import AccountStore;"
        "print('ready', flush=True); sys.stdin.readline();"
        "PortfolioService(AccountStore(migrate(Database(sys.argv[1]), portfolio)), Decimal(1)).open('user123')"
    )
    command = [sys.executable, "-c", start, f"sqlite:///{file}"]
    pipe = subprocess.PIPE
    workers = [subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) for _ in range(6)]
    assert [worker.stdout.readline() for worker in workers if worker.stdout] == ["ready\n"] * 6

    for worker in workers:
        assert worker.stdin
        worker.stdin.write("\n")
        worker.stdin.flush()

    assert [worker.communicate()[1] for worker in workers] == [""] * 6
