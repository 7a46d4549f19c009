"""The gateway's errors, as answers."""

from flask import Flask, request
from flask.typing import ResponseReturnValue

from cb.log import Log
from gateway.trading.errors import (
    InProgress,
    KeyReused,
    OrderTimeout,
    RiskRefusal,
    Unavailable,
    UnknownSymbol,
    UnknownTrade,
    UnknownUser,
)
from servicekit import Problem, request_id
from servicekit.database import DatabaseUnavailableError

log = Log(__name__)

_SOON = {"Retry-After": "1"}
_FULL = "`bulkhead-full`: there are as many calls at once as there may be."
#: what the contract says of operations that need the database, and of those that need other services
STORED = {429: _FULL, 503: "`database-unavailable`, or `circuit-open` with `breaker`."}
DEPENDS = {
    429: _FULL,
    503: "`circuit-open` with `breaker`, `dependency-failed` with `dependency`, `database-unavailable`.",
}


def init_app(app: Flask) -> None:
    """Answer each error of the service with its problem."""

    @app.errorhandler(UnknownSymbol)
    def unknown_symbol(error: UnknownSymbol) -> ResponseReturnValue:
        where = {"in": "path", "name": "symbol"} if request.method == "GET" else {"in": "body", "pointer": "/symbol"}
        errors = [{**where, "detail": "must be a symbol that is quoted"}]
        return _answer(Problem(404, "unknown-symbol", str(error), errors=errors))

    @app.errorhandler(UnknownUser)
    def unknown_user(error: UnknownUser) -> ResponseReturnValue:
        return _answer(Problem(404, "unknown-user", str(error)))

    @app.errorhandler(UnknownTrade)
    def unknown_trade(error: UnknownTrade) -> ResponseReturnValue:
        return _answer(Problem(404, "unknown-trade", str(error)))

    @app.errorhandler(RiskRefusal)
    def risk_refusal(error: RiskRefusal) -> ResponseReturnValue:
        return _answer(Problem(409, error.code, str(error), limit=error.limit, value=error.value))

    @app.errorhandler(KeyReused)
    def key_reused(error: KeyReused) -> ResponseReturnValue:
        return _answer(Problem(422, "idempotency-key-reused", str(error)))

    @app.errorhandler(InProgress)
    def in_progress(error: InProgress) -> ResponseReturnValue:
        return _answer(Problem(409, "idempotency-in-progress", str(error), headers=_SOON))

    @app.errorhandler(OrderTimeout)
    def order_timeout(error: OrderTimeout) -> ResponseReturnValue:
        log.warning("%s", error)
        return _answer(Problem(503, "order-timeout", str(error), headers=_SOON))

    @app.errorhandler(Unavailable)
    def unavailable(error: Unavailable) -> ResponseReturnValue:
        log.warning("%s", error)
        detail = f"{error.dependency} could not do its part"
        return _answer(Problem(503, "dependency-failed", detail, headers=_SOON, dependency=error.dependency))

    @app.errorhandler(DatabaseUnavailableError)
    def database_unavailable(error: DatabaseUnavailableError) -> ResponseReturnValue:
        log.error("database: %s", error)
        return _answer(Problem(503, "database-unavailable", "the database is not available", headers=_SOON))


def _answer(problem: Problem) -> ResponseReturnValue:
    return problem.response(request_id())
