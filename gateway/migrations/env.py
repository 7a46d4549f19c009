"""What Alembic runs to change the gateway's database."""

from cb.migrations import run
from gateway.tables import metadata

run(metadata)
