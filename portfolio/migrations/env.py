"""What Alembic runs to change the portfolio's database."""

from cb.migrations import run
from portfolio.tables import metadata

run(metadata)
