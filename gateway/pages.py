"""Lists in pages: `limit` entries, and where the next page begins."""

import base64
import json
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urlencode

from flask import request
from flask.typing import ResponseReturnValue

from cb.web.parameters import invalid_parameter, read_whole

#: entries of a page, if the client does not say, and at most
DEFAULT, MOST = 50, 200
T = TypeVar("T")


def read_limit() -> int:
    """Return how many entries the running request asks for. Raises Problem."""
    return read_whole("limit", DEFAULT, 1, MOST)


def read_cursor(parse: Callable[[Any], T]) -> T | None:
    """Return what `after` of the running request stands for, None without one. Raises Problem."""
    text = request.args.get("after")
    if text is None:
        return None
    try:
        return parse(json.loads(base64.urlsafe_b64decode(text.encode() + b"==")))
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise invalid_parameter("query", "after", "must be what an earlier page gave as next") from error


def only(*names: str) -> None:
    """Refuse parameters of the running request with other names, and any that comes twice. Raises Problem."""
    for name, values in request.args.lists():
        if name not in names:
            raise invalid_parameter("query", name, f"is none of {', '.join(names)}")
        if len(values) > 1:
            raise invalid_parameter("query", name, "must be given once")


def page(
    name: str, entries: list[T], limit: int, dump: Callable[[T], Any], cursor: Callable[[T], Any]
) -> ResponseReturnValue:
    """Return a page of entries, of which there is one more than `limit` if another page follows.

    `dump` makes an entry JSON, and `cursor` what `after` must be to go on behind it.
    """
    shown, headers, following = entries[:limit], {}, None
    if len(entries) > limit:
        following = base64.urlsafe_b64encode(json.dumps(cursor(shown[-1])).encode()).rstrip(b"=").decode()
        link = f"{request.path}?{urlencode({**request.args, 'after': following})}"
        headers = {"Link": f'<{link}>; rel="next"'}
    return {name: [dump(each) for each in shown], "next": following}, 200, headers
