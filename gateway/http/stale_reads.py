"""Last good responses, served to reads while a dependency is down. Trades never use them."""

from typing import Any

from marshmallow import Schema

from cb import BulkheadFullError, CircuitOpenError
from cb.resilience import StaleCache, open_store
from gateway.trading.errors import DependencyError
from servicekit import Settings

_PLAIN_SERVERS = ("redis://", "rediss://", "unix://")


class StaleReads:
    """Creates the caches. They share one store: all workers of the host, or all hosts with a Redis server."""

    def __init__(self, settings: Settings) -> None:
        # Sentinels and clusters are supported for breakers only.
        shared = settings.fleet_url if (settings.fleet_url or "").startswith(_PLAIN_SERVERS) else None
        self._store = open_store(shared or f"file://{settings.state_dir / 'gateway.answers'}", name="trading-gateway")
        self._own = settings.service

    def cache(self, name: str, kind: type[Any], schema: Schema) -> StaleCache[Any]:
        """Return a cache of `kind` objects, serialized by a schema."""
        return StaleCache(
            name,
            self._store,
            max_stale_age=self._own["reads_max_stale_age"],
            max_age=self._own["reads_max_age"],
            errors=(CircuitOpenError, BulkheadFullError, DependencyError),
            dump=lambda value: schema.dumps(value).encode(),
            load=lambda data: kind(**schema.loads(data)),
        )
