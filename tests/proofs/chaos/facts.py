"""The rows of both databases and the responses to clients: the input of the invariants."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Row, Table, select, text

from gateway.trading import tables as gateway
from portfolio import tables as portfolio
from servicekit.database import Database
from tests.proofs.chaos.clients import Answer

Rows = list[Row[Any]]


@dataclass(frozen=True, slots=True)
class Facts:
    """A snapshot of everything, or of the databases alone while services run."""

    # Of the gateway, from one transaction.
    trades: Rows
    journal: Rows
    exposure: Rows
    audit: Rows
    notifications: Rows
    # Of the portfolio, from a later transaction.
    accounts: Rows
    positions: Rows
    booked: Rows
    entries: Rows
    # Known only after all trades are settled.
    told: list[Answer] = field(default_factory=list)
    #: the gateway's verification of its audit log
    verified: dict[str, Any] = field(default_factory=dict)
    #: counts of faults and kills
    faults: Counter[str] = field(default_factory=Counter)
    kills: Counter[str] = field(default_factory=Counter)
    #: by service
    logs: dict[str, str] = field(default_factory=dict)
    settled: bool = False
    #: seconds from the end of the faults until all trades were settled
    took: float = 0.0

    @property
    def states(self) -> dict[str, str]:
        """States of all trades, by id."""
        return {trade.trade_id: trade.state for trade in self.trades}

    @property
    def outcomes(self) -> dict[str, str]:
        """Outcomes at the portfolio, by trade id."""
        return {trade.trade_id: trade.outcome for trade in self.booked}


def look(databases: dict[str, str], **rest: Any) -> Facts:
    """Read the databases, the gateway's first, so that the portfolio's is at least as recent."""
    g, p = gateway, portfolio
    ours = _read(databases["gateway"], g.trades, g.journal, g.exposure, g.audit_log, g.notifications)
    theirs = _read(databases["portfolio"], p.accounts, p.positions, p.trades, p.entries)
    names = ("trades", "journal", "exposure", "audit", "notifications", "accounts", "positions", "booked", "entries")
    rows: dict[str, Any] = dict(zip(names, [*ours, *theirs], strict=True))
    return Facts(**rows, **rest)


def _read(url: str, *tables: Table) -> list[Rows]:
    """Return all rows of some tables in one transaction, each in the order of its key."""
    database = Database(url)
    try:
        with database.read() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
            return [list(connection.execute(select(each).order_by(*each.primary_key)).all()) for each in tables]
    finally:
        database.close()
