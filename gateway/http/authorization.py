"""Whose a request may be about: where users have keys, each sees and moves what is its own; the rest is not there."""

from flask import current_app, request

from gateway.trading.errors import UnknownTrade, UnknownUser
from gateway.trading.trade import Order, Trade
from servicekit.access import require_operator
from servicekit.api_keys import has_keys, is_own, require_user
from servicekit.ids import ID
from servicekit.openapi import Operation


def check() -> None:
    """Let a request pass that shows the key of the user whom its path or its query names.

    Raises UnknownUser, Problem.
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
        if ID.fullmatch(user_id):  # what is no id at all is refused by the view
            _own(user_id)


def own_order(order: Order) -> Order:
    """Return an order that the user of the running request may give. Raises UnknownUser."""
    _own(order.user_id)
    return order


def own_trade(trade: Trade) -> Trade:
    """Return a trade that the user of the running request may see. Raises UnknownTrade."""
    if not is_own(trade.order.user_id):
        raise UnknownTrade(trade.trade_id)
    return trade


def _own(user_id: str) -> None:
    if not is_own(user_id):
        raise UnknownUser(user_id)
