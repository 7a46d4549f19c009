"""Authorization: with API keys configured, users access only their own data; anything else is 404."""

from flask import current_app, request

from gateway.trading.errors import UnknownTradeError, UnknownUserError
from gateway.trading.trade import Order, Trade
from servicekit.access import require_operator
from servicekit.api_keys import has_keys, is_own, require_user
from servicekit.ids import ID
from servicekit.openapi import Operation


def check() -> None:
    """Authorize the current request by the user that its path or query names.

    Raises UnknownUserError, Problem.
    """
    if not has_keys():
        return
    view = current_app.view_functions[request.endpoint or ""]
    if isinstance(view, Operation) and view.terms.access == "all-users":
        require_operator()
        return
    require_user()
    named = request.args.getlist("userId")
    if request.view_args and "user_id" in request.view_args:
        named.append(request.view_args["user_id"])
    for user_id in named:
        if ID.fullmatch(user_id):  # the view refuses malformed ids
            _require_own(user_id)


def own_order(order: Order) -> Order:
    """Return the order if the current user may place it. Raises UnknownUserError."""
    _require_own(order.user_id)
    return order


def own_trade(trade: Trade) -> Trade:
    """Return the trade if the current user may read it. Raises UnknownTradeError."""
    if not is_own(trade.order.user_id):
        raise UnknownTradeError(trade.trade_id)
    return trade


def _require_own(user_id: str) -> None:
    if not is_own(user_id):
        raise UnknownUserError(user_id)
