"""What Alembic runs to change the gateway's database."""

from gateway.trading.tables import metadata
from servicekit.migrations import run

run(metadata)
