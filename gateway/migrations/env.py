"""The Alembic environment of the gateway's database."""

from gateway.trading.tables import metadata
from servicekit.migrations import run

run(metadata)
