"""The Alembic environment of the portfolio's database."""

from portfolio.tables import metadata
from servicekit.migrations import run

run(metadata)
