"""The last good answers, for reads while a service is away. Trades never use them."""

from typing import Any

from marshmallow import Schema

from cb import BulkheadFullError, CircuitOpenError
from cb.resilience import StaleCache, open_store
from gateway.trading.errors import Unavailable
from servicekit import Settings

_PLAIN_SERVERS = ("redis://", "rediss://", "unix://")


class Reads:
    """Makes the caches of one store, which all workers of this host share."""

    def __init__(self, settings: Settings) -> None:
        # A server that all hosts share has the answers of all; sentinels and clusters are for breakers only.
        shared = settings.fleet_url if (settings.fleet_url or "").startswith(_PLAIN_SERVERS) else None
        self._answers = open_store(shared or f"file://{settings.state_dir / 'gateway.answers'}", name="trading-gateway")
        self._own = settings.service

    def last_good(self, name: str, kind: type[Any], schema: Schema) -> StaleCache[Any]:
        """Return a cache for answers of one kind, kept as a schema dumps them."""
        return StaleCache(
            name,
            self._answers,
            max_stale_age=self._own["stale_usable_for"],
            max_age=self._own["stale_fresh_for"],
            errors=(CircuitOpenError, BulkheadFullError, Unavailable),
            dump=lambda value: schema.dumps(value).encode(),
            load=lambda data: kind(**schema.loads(data)),
        )
