"""What a request says beside its body: in its path, its query and its headers."""

import re

from flask import request

from .problems import Problem

_LONGEST = 64  # characters of a name that an answer repeats


def invalid_parameter(where: str, name: str, rule: str) -> Problem:
    """Return the problem of a parameter, where it is (`path` or `query`), and the rule that it breaks."""
    name = name[:_LONGEST]
    errors = [{"in": where, "name": name, "detail": rule}]
    return Problem(422, "invalid-parameter", f"{name} {rule}", errors=errors)


def read_whole(name: str, default: int, low: int, high: int) -> int:
    """Return a whole number from the query of the running request. Raises Problem."""
    text = request.args.get(name, str(default))
    if not re.fullmatch(r"0|[1-9][0-9]{0,18}", text, re.ASCII) or not low <= int(text) <= high:
        raise invalid_parameter("query", name, f"must be a whole number from {low} to {high}")
    return int(text)
