"""The stored messages to users and operators."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import select

from gateway.trading.tables import notifications
from servicekit.database import Database, insert_once


@dataclass(frozen=True, slots=True)
class Message:
    """A message to deliver."""

    #: a message with a known id is not delivered again
    event_id: str
    #: None: the operators
    user_id: str | None
    #: `trade` or `alert`
    kind: str
    text: str
    trade_id: str | None
    at: datetime


@dataclass(frozen=True, slots=True)
class StoredNotification:
    """A delivered message and its number."""

    id: int
    message: Message


class Notifications:
    """Stores messages. Each method is one transaction and raises DatabaseUnavailableError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, messages: Iterable[Message]) -> None:
        """Store the messages that are new."""
        with self._database.write() as connection:
            for message in messages:
                insert_once(connection, notifications, asdict(message))

    def page(self, user_id: str | None, limit: int, before: int | None = None) -> list[StoredNotification]:
        """Return at most `limit` messages to a user or to the operators, newest first, with numbers below `before`."""
        query = select(notifications).where(notifications.c.user_id == user_id)
        if before is not None:
            query = query.where(notifications.c.id < before)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(notifications.c.id.desc()).limit(limit)).all()
        return [
            StoredNotification(row.id, Message(row.event_id, row.user_id, row.kind, row.text, row.trade_id, row.at))
            for row in rows
        ]
