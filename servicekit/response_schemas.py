"""Schemas of what a service answers."""

from typing import Any

from marshmallow import EXCLUDE, Schema


class ResponseSchema(Schema):
    """What is dumped, never loaded. Later versions may have more members: readers pass over what they do not know."""

    class Meta:
        unknown = EXCLUDE


class PassthroughSchema(ResponseSchema):
    """What is JSON already: the schema says what is in it, and leaves it as it is."""

    def dump(self, obj: Any, *, many: bool | None = None) -> Any:  # noqa: ARG002  # many are JSON too
        return obj
