"""One breaker for all hosts: their ledgers meet in a Redis or Valkey server, and no call waits for it."""

from .connection import FleetError, check
from .fleet import Fleet

__all__ = ["Fleet", "FleetError", "check"]
