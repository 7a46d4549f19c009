"""The latest result of the comparison with the portfolio, stored for all workers."""

import json
from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import select, update

from servicekit.database import Database, insert_once

from .tables import comparisons


@dataclass(frozen=True, slots=True)
class Difference:
    """A trade that differs between the services."""

    trade_id: str
    #: state at the gateway, or `unknown`
    gateway: str
    #: outcome at the portfolio, or `unknown`
    portfolio: str

    def __str__(self) -> str:
        return f"{self.trade_id}: gateway {self.gateway}, portfolio {self.portfolio}"


@dataclass(frozen=True, slots=True)
class Comparison:
    """The result of comparing all settled trades of both services once."""

    #: end of the comparison
    at: datetime
    #: number of settled trades at the gateway
    trades: int
    differences: int
    #: the first differences
    examples: tuple[Difference, ...]


class ComparisonLog:
    """Stores the latest result. Each method is one transaction and raises DatabaseUnavailableError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def save(self, result: Comparison) -> None:
        """Replace the stored result."""
        examples = json.dumps([asdict(each) for each in result.examples])
        row = {"at": result.at, "trades": result.trades, "differences": result.differences, "examples": examples}
        with self._database.write() as connection:
            if not insert_once(connection, comparisons, {"id": 1, **row}):
                connection.execute(update(comparisons).values(row))

    def latest(self) -> Comparison | None:
        """Return the stored result, None if there is none or its row is damaged."""
        try:
            with self._database.read() as connection:
                row = connection.execute(select(comparisons)).first()
            if row is None:
                return None
            examples = tuple(Difference(**each) for each in json.loads(row.examples))
            return Comparison(row.at, int(row.trades), int(row.differences), examples)
        except (ValueError, TypeError, OverflowError, RecursionError):
            return None  # the next comparison replaces it
