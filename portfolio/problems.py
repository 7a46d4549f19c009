"""Problem responses for the portfolio's errors."""

from flask import Flask
from flask.typing import ResponseReturnValue

from servicekit import Log, Problem, problem_response
from servicekit.database import DatabaseUnavailableError

from .service import TradeIdReusedError, UnknownUserError

log = Log(__name__)


def init_app(app: Flask) -> None:
    """Register a handler for each error."""

    @app.errorhandler(UnknownUserError)
    def unknown_user(error: UnknownUserError) -> ResponseReturnValue:
        return problem_response(Problem(404, "unknown-user", str(error)))

    @app.errorhandler(TradeIdReusedError)
    def trade_id_reused(error: TradeIdReusedError) -> ResponseReturnValue:
        return problem_response(Problem(422, "trade-id-reused", str(error)))

    @app.errorhandler(DatabaseUnavailableError)
    def database_unavailable(error: DatabaseUnavailableError) -> ResponseReturnValue:
        log.error("database: %s", error)
        problem = Problem(503, "database-unavailable", "the database is not available", headers={"Retry-After": "1"})
        return problem_response(problem)
