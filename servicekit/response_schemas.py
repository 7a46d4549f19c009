"""Schemas of responses."""

from typing import Any

from marshmallow import EXCLUDE, Schema


class ResponseSchema(Schema):
    """A schema of a response. Readers ignore unknown members, since later versions may have more."""

    class Meta:
        unknown = EXCLUDE


class PassthroughSchema(ResponseSchema):
    """A response that is already JSON; the schema documents it without transforming it."""

    def dump(self, obj: Any, *, many: bool | None = None) -> Any:  # noqa: ARG002  # many are JSON too
        return obj
