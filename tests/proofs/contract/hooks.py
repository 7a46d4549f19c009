"""Hooks of schemathesis for facts outside of schemas: unused keys, and names of breakers that exist."""

import random
import re
import uuid
from typing import Any

import schemathesis

from gateway.http.schemas import IdempotencyKey
from servicekit.ids import ID
from servicekit.settings import BREAKERS


@schemathesis.hook
def before_call(_context: schemathesis.HookContext, case: schemathesis.Case, _kwargs: dict[str, Any]) -> None:
    """Use no key twice, or another order with it is refused; and steer a breaker that there is, half of the time."""
    if fits(IdempotencyKey.pattern, (case.headers or {}).get("Idempotency-Key")):
        case.headers["Idempotency-Key"] = str(uuid.uuid4())
    if isinstance(case.body, dict) and fits(ID, case.body.get("tradeId")):
        case.body["tradeId"] = str(uuid.uuid4())
    if case.operation.definition.raw["operationId"].endswith("Breaker") and random.random() < 0.5:
        place = case.path_parameters if "name" in (case.path_parameters or ()) else case.query
        if "name" in (place or ()):
            place["name"] = random.choice(BREAKERS)


def fits(pattern: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and bool(pattern.fullmatch(value))
