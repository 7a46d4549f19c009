"""The portfolio's errors, as answers."""

from flask import Flask
from flask.typing import ResponseReturnValue

from cb.log import Log
from servicekit import Problem, request_id
from servicekit.database import DatabaseUnavailableError

from .service import TradeIdReused, UnknownUser

log = Log(__name__)


def init_app(app: Flask) -> None:
    """Answer each error of the service with its problem."""

    @app.errorhandler(UnknownUser)
    def unknown_user(error: UnknownUser) -> ResponseReturnValue:
        return Problem(404, "unknown-user", str(error)).response(request_id())

    @app.errorhandler(TradeIdReused)
    def trade_id_reused(error: TradeIdReused) -> ResponseReturnValue:
        return Problem(422, "trade-id-reused", str(error)).response(request_id())

    @app.errorhandler(DatabaseUnavailableError)
    def database_unavailable(error: DatabaseUnavailableError) -> ResponseReturnValue:
        log.error("database: %s", error)
        problem = Problem(503, "database-unavailable", "the database is not available", headers={"Retry-After": "1"})
        return problem.response(request_id())
