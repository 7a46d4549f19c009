"""Validation errors of marshmallow as paths and rules."""

from collections.abc import Iterator, Mapping

Path = tuple[str | int, ...]

# Messages of marshmallow, reworded in the form of our rules.
_RULES = {
    "Missing data for required field.": "must be present",
    "Unknown field.": "must not be present: no such field is known",
    "Field may not be null.": "must not be null",
    "Invalid input type.": "must be an object",
    "Not a valid string.": "must be text",
    "Not a valid integer.": "must be a whole number",
    "Not a valid number.": "must be a number",
    "Not a valid boolean.": "must be true or false",
    "Not a valid list.": "must be a list",
    "Not a valid URL.": "must be a URL",
}


def violations(messages: Mapping[object, object] | list[object], path: Path = ()) -> Iterator[tuple[Path, str]]:
    """Yield the path and the rule of each violation, from the messages of a ValidationError."""
    if isinstance(messages, list):
        for message in messages:
            yield path, _rule(str(message))
    else:
        for key, inner in messages.items():
            # `_schema` is marshmallow's name for the object itself.
            deeper = path if key == "_schema" else (*path, key if isinstance(key, int) else str(key))
            if isinstance(inner, Mapping | list):
                yield from violations(inner, deeper)


def _rule(message: str) -> str:
    rule = _RULES.get(message, message).removesuffix(".")
    return "m" + rule[1:] if rule.startswith("Must ") else rule
