"""Circuit breakers shared by several hosts, through a Redis or Valkey server. No call waits for the server."""

from cb.events import Listener
from cb.extras import needs
from cb.ledger.fleet_view import FleetView
from cb.ledger.ledger import Ledger

with needs("redis", "redis"):
    from .connection import FleetError, check
    from .fleet import Fleet

__all__ = ["Fleet", "FleetError", "FleetView", "Ledger", "Listener", "check"]
