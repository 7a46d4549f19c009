"""What a service may answer, and the errors that a call raises instead of an answer.

What counts as failure: no answer, an answer that is not what was asked for, and the statuses 429 and 5xx. Every other
4xx is an answer like any other: the service is well, the request was not.

ClientError
 +- ServiceUnavailable   no answer in time, or one that says that the service cannot serve
 +- BadAnswer            an answer that makes no sense
 +- Refused              a 4xx

A call that the breaker refuses raises cb.CircuitOpenError, one that a full bulkhead refuses cb.BulkheadFullError.
"""

import json
import time
from collections.abc import Mapping
from decimal import Decimal
from email.utils import parsedate_to_datetime
from typing import Any, NoReturn

Json = dict[str, Any]

#: bytes
LARGEST_ANSWER = 1 << 20


class ClientError(Exception):
    """Root of what can go wrong with a call that was made."""


class ServiceUnavailable(ClientError):
    """The service did not answer in time, or answered that it cannot serve."""

    def __init__(self, reason: str, *, sent: bool = True, retry_after: float | None = None) -> None:
        super().__init__(reason)
        #: False only if surely nothing reached the service
        self.sent = sent
        #: seconds the service asks to be left alone; the breaker heeds it
        self.retry_after = retry_after


class BadAnswer(ClientError):
    """The service answered something else than the JSON object it should."""


class Refused(ClientError):
    """The service is well and says no."""

    def __init__(self, status: int, body: Json) -> None:
        super().__init__(f"status {status}")
        self.status = status
        #: the JSON object of the answer, empty if it has none
        self.body = body


#: statuses that say that a service cannot serve now
FAILING = frozenset({429, 500, 502, 503, 504})


def failing(status: int) -> bool:
    """Return whether a status says that the service cannot serve."""
    return status == 429 or status >= 500


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that a Retry-After header asks for, None without a readable one."""
    value = headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit() and len(value) < 10:
        return float(value)
    try:
        return max(parsedate_to_datetime(value).timestamp() - time.time(), 0.0)
    except (ValueError, OverflowError):
        return None


def parse(content: bytes) -> Json:
    """Return the JSON object of an answer. Raises BadAnswer."""
    if len(content) > LARGEST_ANSWER:
        raise BadAnswer(f"longer than {LARGEST_ANSWER} bytes")
    try:
        answer = json.loads(content, parse_float=Decimal, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise BadAnswer("not JSON") from error
    if not isinstance(answer, dict):
        raise BadAnswer("not a JSON object")
    return answer


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")
