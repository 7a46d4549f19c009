"""A shop whose orders are in PostgreSQL."""

import os

from flask import Flask
from sqlalchemy import create_engine, text

from cb.integrations.flask import CircuitBreakers  # guard
from cb.integrations.sqlalchemy import guard_engine  # guard

app = Flask(__name__)
app.config["CB_DEFAULTS"] = {"failure_threshold": 5, "timeout": "2s", "success_threshold": 1}  # guard
engine = create_engine(os.environ["DATABASE_URL"], pool_pre_ping=True, connect_args={"connect_timeout": 2})
guard_engine(engine, CircuitBreakers(app).registry.get("database"))  # guard


@app.get("/call")
def orders():
    with engine.connect() as connection:
        return {"orders": connection.execute(text("SELECT 42")).scalar()}
