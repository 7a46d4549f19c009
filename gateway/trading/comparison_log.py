"""The result of the latest comparison with the portfolio, where every worker sees it."""

import json
from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import select, update

from servicekit.database import Database, insert_once

from .tables import comparisons


@dataclass(frozen=True, slots=True)
class Difference:
    """A trade that is not the same at both services."""

    trade_id: str
    #: its state at the gateway, or `unknown`
    gateway: str
    #: its outcome at the portfolio, or `unknown`
    portfolio: str

    def __str__(self) -> str:
        return f"{self.trade_id}: gateway {self.gateway}, portfolio {self.portfolio}"


@dataclass(frozen=True, slots=True)
class Comparison:
    """All settled trades of both services, compared once."""

    #: when it ended
    at: datetime
    #: settled trades of the gateway
    trades: int
    differences: int
    #: the first of them
    examples: tuple[Difference, ...]


class ComparisonLog:
    """Each method is one transaction, and raises DatabaseUnavailableError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def note(self, result: Comparison) -> None:
        """Keep a result in place of the one before."""
        examples = json.dumps([asdict(each) for each in result.examples])
        row = {"at": result.at, "trades": result.trades, "differences": result.differences, "examples": examples}
        with self._database.write() as connection:
            if not insert_once(connection, comparisons, {"id": 1, **row}):
                connection.execute(update(comparisons).values(row))

    def latest(self) -> Comparison | None:
        """Return the latest result, None before the first, or if what was kept makes no sense."""
        try:
            with self._database.read() as connection:
                row = connection.execute(select(comparisons)).first()
            if row is None:
                return None
            examples = tuple(Difference(**each) for each in json.loads(row.examples))
            return Comparison(row.at, int(row.trades), int(row.differences), examples)
        except (ValueError, TypeError, OverflowError, RecursionError):
            return None  # the next comparison replaces it
