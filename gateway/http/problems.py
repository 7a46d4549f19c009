"""Problem responses for the gateway's errors."""

from flask import Flask, request
from flask.typing import ResponseReturnValue

from gateway.trading.errors import (
    DependencyError,
    InProgressError,
    KeyReusedError,
    OrderTimeoutError,
    RiskLimitError,
    UnknownSymbolError,
    UnknownTradeError,
    UnknownUserError,
)
from servicekit import Log, Problem, problem_response
from servicekit.database import DatabaseUnavailableError

log = Log(__name__)

_SOON = {"Retry-After": "1"}
_FULL = "`bulkhead-full`: the limit of concurrent calls is reached."
#: documented problems of operations that use the database, and of those that use other services too
STORED = {429: _FULL, 503: "`database-unavailable`, or `circuit-open` with `breaker`."}
DEPENDS = {
    429: _FULL,
    503: "`circuit-open` with `breaker`, `dependency-failed` with `dependency`, `database-unavailable`.",
}


def init_app(app: Flask) -> None:
    """Register a handler for each error."""

    @app.errorhandler(UnknownSymbolError)
    def unknown_symbol(error: UnknownSymbolError) -> ResponseReturnValue:
        where = {"in": "path", "name": "symbol"} if request.method == "GET" else {"in": "body", "pointer": "/symbol"}
        errors = [{**where, "detail": "must be a symbol that is quoted"}]
        return _response(Problem(404, "unknown-symbol", str(error), errors=errors))

    @app.errorhandler(UnknownUserError)
    def unknown_user(error: UnknownUserError) -> ResponseReturnValue:
        return _response(Problem(404, "unknown-user", str(error)))

    @app.errorhandler(UnknownTradeError)
    def unknown_trade(error: UnknownTradeError) -> ResponseReturnValue:
        return _response(Problem(404, "unknown-trade", str(error)))

    @app.errorhandler(RiskLimitError)
    def risk_limit(error: RiskLimitError) -> ResponseReturnValue:
        return _response(Problem(409, error.code, str(error), limit=error.limit, value=error.value))

    @app.errorhandler(KeyReusedError)
    def key_reused(error: KeyReusedError) -> ResponseReturnValue:
        return _response(Problem(422, "idempotency-key-reused", str(error)))

    @app.errorhandler(InProgressError)
    def in_progress(error: InProgressError) -> ResponseReturnValue:
        return _response(Problem(409, "idempotency-in-progress", str(error), headers=_SOON))

    @app.errorhandler(OrderTimeoutError)
    def order_timeout(error: OrderTimeoutError) -> ResponseReturnValue:
        log.warning("%s", error)
        return _response(Problem(503, "order-timeout", str(error), headers=_SOON))

    @app.errorhandler(DependencyError)
    def dependency_failed(error: DependencyError) -> ResponseReturnValue:
        log.warning("%s", error)
        detail = f"the call to {error.dependency} failed"
        return _response(Problem(503, "dependency-failed", detail, headers=_SOON, dependency=error.dependency))

    @app.errorhandler(DatabaseUnavailableError)
    def database_unavailable(error: DatabaseUnavailableError) -> ResponseReturnValue:
        log.error("database: %s", error)
        return _response(Problem(503, "database-unavailable", "the database is not available", headers=_SOON))


def _response(problem: Problem) -> ResponseReturnValue:
    return problem_response(problem)
