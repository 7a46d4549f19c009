"""Migration of a service's database with Alembic, safe for any number of workers that start at once.

A service's scripts are in its folder `migrations`, in the order of their numbers; its `env.py`, which Alembic requires,
calls `run`. They run in one transaction, so that a database is never left between two versions. Their names start with
that of the service, so that a service recognizes the database of another one and does not change it.
"""

import logging
import math
from pathlib import Path
from types import ModuleType

from alembic import command, context
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection, MetaData, text

from .database import Database, DatabaseUnavailableError, limit_waits

#: key of the PostgreSQL lock for migrations: any number that is not used otherwise
_LOCK = 0x6362_6D69


def migrate(database: Database, service: ModuleType) -> Database:
    """Run the pending scripts of a service, and return its database. Raises DatabaseUnavailableError.

    No connection is left open, so that the process may fork afterwards.
    """
    logging.getLogger("alembic").setLevel(logging.WARNING)  # it logs at each start that nothing had to be done
    try:
        with limit_waits(lambda: math.inf), database.write() as connection:  # a large table may take long
            if connection.dialect.name == "postgresql":
                connection.execute(text("SET LOCAL lock_timeout = 0"))  # the first worker may take long
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
            command.upgrade(_config(service, connection), "head")
    except CommandError as error:
        name = service.__name__
        raise DatabaseUnavailableError(f"it is not of {name}, or of a later version of {name}: {error}") from error
    finally:
        database.close()
    return database


def _config(service: ModuleType, connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(str(service.__file__)).parent / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def run(tables: MetaData) -> None:
    """Run the migrations of the current Alembic command on its connection. Called by `env.py`."""
    context.configure(connection=context.config.attributes["connection"], target_metadata=tables, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()
