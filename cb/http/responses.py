"""What a service may answer, and the errors that a call raises instead of an answer.

What counts as failure: no answer, an answer that is not what was asked for, and the statuses 429 and 5xx. Every other
4xx is an answer like any other: the service is well, the request was not.

ClientError
 +- ServiceUnavailable   no answer in time, or one that says that the service cannot serve
 +- InvalidResponse      an answer that is not what it should be
 +- ClientErrorResponse  a 4xx

A call that the breaker refuses raises cb.CircuitOpenError, one that a full bulkhead refuses cb.BulkheadFullError.
"""

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any, NoReturn, TypeVar

from cb.pickling import PortableError
from cb.state.retry_after import of_headers

#: an object, as `json.loads` makes it
Json = dict[str, Any]
T = TypeVar("T")

#: seconds that the headers of an answer ask for
retry_after = of_headers
#: bytes
MAX_RESPONSE_BYTES = 1 << 20


class ClientError(PortableError):
    """Root of what can go wrong with a call that was made."""


class ServiceUnavailable(ClientError):
    """The service did not answer in time, or answered that it cannot serve."""

    def __init__(self, reason: str, sent: bool = True, retry_after: float | None = None) -> None:
        super().__init__(reason, sent, retry_after)
        #: why, in words
        self.reason = reason
        #: False only if surely nothing reached the service
        self.sent = sent
        #: seconds the service asks to be left alone; the breaker heeds it
        self.retry_after = retry_after

    def __str__(self) -> str:
        return self.reason


class InvalidResponse(ClientError):
    """The service answered something else than the JSON object it should, or than its check accepts."""

    def __init__(self, reason: str, status: int = 200) -> None:
        super().__init__(reason, status)
        #: what is wrong with it; the exception that found it is the `__cause__`
        self.reason = reason
        #: of HTTP
        self.status = status

    def __str__(self) -> str:
        return self.reason


class ClientErrorResponse(ClientError):
    """The service is well and says no."""

    def __init__(self, status: int, body: Json) -> None:
        super().__init__(status, body)
        #: of HTTP
        self.status = status
        #: the JSON object of the answer, empty if it has none
        self.body = body

    def __str__(self) -> str:
        return f"status {self.status}"


#: statuses that say that a service cannot serve now
FAILURE_STATUSES = frozenset({429, 500, 502, 503, 504})


def is_failure(status: int) -> bool:
    """Return whether a status says that the service cannot serve."""
    return status == 429 or status >= 500


def parse_response(status: int, content: bytes, check: Callable[[Json], T]) -> T:
    """Return what a check makes of an answer. Raises InvalidResponse, also for all that the check raises."""
    if not 200 <= status < 300:
        raise InvalidResponse(f"status {status}", status)
    answer = _parse(status, content)
    try:
        return check(answer)
    except InvalidResponse:
        raise
    except Exception as error:
        raise InvalidResponse(f"{type(error).__name__}: {error}", status) from error


def client_error_response(status: int, content: bytes) -> ClientErrorResponse:
    """Return a 4xx as an exception, whatever its body is."""
    try:
        return ClientErrorResponse(status, _parse(status, content))
    except InvalidResponse:
        return ClientErrorResponse(status, {})


def _parse(status: int, content: bytes) -> Json:
    if len(content) > MAX_RESPONSE_BYTES:
        raise InvalidResponse(f"longer than {MAX_RESPONSE_BYTES} bytes", status)
    try:
        answer = json.loads(
            content.decode("utf-8-sig"),
            parse_float=Decimal,
            parse_constant=_no_number,
            object_pairs_hook=_without_repetition,
        )
    except (ValueError, ArithmeticError, RecursionError) as error:
        raise InvalidResponse(f"not JSON: {error}", status) from error
    if not isinstance(answer, dict):
        raise InvalidResponse("not a JSON object", status)
    return answer


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number")


def _without_repetition(pairs: list[tuple[str, Any]]) -> Json:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("an object names a member twice")  # and others may take the first for what it says
    return members
