"""JSON bodies, validated by schemas."""

from typing import Any

from marshmallow import Schema, ValidationError

from cb.integrations.flask.current import read_document
from cb.integrations.operations.request_input import MAX_BODY, invalid_body, pointer

from .validation_errors import violations

__all__ = ["MAX_BODY", "read_json"]


def read_json(schema: Schema) -> Any:
    """Return the body of the current request as a schema loads it; its fractions are Decimals. Raises Problem."""
    document, odd = read_document()
    try:
        loaded = schema.load(document)
    except ValidationError as error:
        raise invalid_body([(pointer(where), rule) for where, rule in violations(error.messages)], odd) from error
    if odd:
        raise invalid_body([], odd)
    return loaded
