"""Lists in pages: `limit` entries, and where the next page begins."""

from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urlencode

from flask import request
from marshmallow import fields

from servicekit import ResponseSchema, ResponseSpec
from servicekit.fields import Digits, StrictField

#: entries of a page, if the client does not say, and at most
_DEFAULT, _MOST = 50, 200
T = TypeVar("T")


class PageSchema(ResponseSchema):
    """A part of a list."""

    next = fields.String(
        required=True,
        allow_none=True,
        metadata={"description": "What `after` must be for the next page; none if there is none."},
    )


def paged(after: StrictField[Any], **own: StrictField[Any]) -> dict[str, StrictField[Any]]:
    """Return the query of a list: what it has of its own, and what chooses a page."""
    about = {"description": "Entries of a page, at most."}
    return {**own, "limit": Digits(1, _MOST, load_default=_DEFAULT, metadata=about), "after": after}


def number() -> Digits:
    """Return a cursor that is the number of an entry."""
    return Digits(0, 10**18 - 1, load_default=None, metadata=AFTER)


AFTER = {"description": "What an earlier page gave as `next`."}
_LINK = {"Link": 'Where the next page is, as `<...>; rel="next"`, if there is one.'}


def answer(description: str, schema: PageSchema) -> ResponseSpec:
    """Return the answer of a list."""
    return ResponseSpec(description, schema, headers=_LINK)


def page(name: str, entries: list[T], limit: int, cursor: Callable[[T], object]) -> Any:
    """Return a page of entries, of which there is one more than `limit` if another page follows.

    `cursor` makes of an entry what `after` must be to go on behind it.
    """
    shown, headers, following = entries[:limit], {}, None
    if len(entries) > limit:
        following = str(cursor(shown[-1]))
        link = f"{request.path}?{urlencode({**request.args, 'after': following})}"
        headers = {"Link": f'<{link}>; rel="next"'}
    return {name: shown, "next": following}, 200, headers
