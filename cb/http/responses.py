"""Responses of a JSON service, and the errors of a call.

A call fails if there is no response, if the response is not the expected JSON, and for the statuses 429 and 5xx. Any
other 4xx is a valid response for the breaker, as are 501, 505 and 510: the service works, the request was wrong.

ClientError
 +- ServiceUnavailable   no response in time, or a status of a service that cannot serve
 +- InvalidResponse      a response that is not the expected JSON object
 +- ClientErrorResponse  a 4xx

A rejected call raises cb.CircuitOpenError or cb.BulkheadFullError instead.
"""

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any, NoReturn, TypeVar

from cb.pickling import PortableError
from cb.state.retry_after import of_headers

from .texts import status_text

#: a JSON object, as `json.loads` returns it
Json = dict[str, Any]
T = TypeVar("T")

#: returns the seconds of a Retry-After header
retry_after = of_headers
#: default bytes of the longest response that is parsed
MAX_RESPONSE_BYTES = 1 << 20


class ClientError(PortableError):
    """Root of the errors of a call that was admitted. Its text is the `target` of the call and the `reason`."""

    #: method and origin of the call, as in `GET https://example.com`; empty before the client raises the error
    target: str = ""
    #: the reason, in words
    reason: str = ""

    def __str__(self) -> str:
        reason = self.reason or super().__str__()
        return f"{self.target}: {reason}" if self.target else reason


class ServiceUnavailable(ClientError):
    """No response in time, or a response that says that the service cannot serve.

    Args:
        reason: The reason, in words.
        sent: False only if the request certainly did not reach the service.
        retry_after: Wait requested by the service, in seconds; the breaker honours it.
        status: HTTP status; None if there was no response.
    """

    def __init__(
        self, reason: str, sent: bool = True, retry_after: float | None = None, status: int | None = None
    ) -> None:
        super().__init__(reason, sent, retry_after, status)
        #: the reason, in words
        self.reason = reason
        #: False only if the request certainly did not reach the service
        self.sent = sent
        #: wait requested by the service, in seconds; the breaker honours it
        self.retry_after = retry_after
        #: HTTP status; None if there was no response
        self.status = status


class InvalidResponse(ClientError):
    """A response that is not a JSON object, or that `check` rejects.

    Args:
        reason: The reason, in words. An exception of `check` is the `__cause__`.
        status: HTTP status.
    """

    def __init__(self, reason: str, status: int = 200) -> None:
        super().__init__(reason, status)
        #: the reason, in words; an exception of `check` is the `__cause__`
        self.reason = reason
        #: HTTP status
        self.status = status


class ClientErrorResponse(ClientError):
    """A response with a 4xx status other than 429, or with 501, 505 or 510: the service works, and rejects the request.

    Args:
        status: HTTP status.
        body: JSON object of the response, empty if it has none.
    """

    def __init__(self, status: int, body: Json) -> None:
        super().__init__(status, body)
        #: HTTP status
        self.status = status
        #: JSON object of the response, empty if it has none
        self.body = body
        #: the status, in words
        self.reason = status_text(status)


#: statuses that say which requests a service does not support: method, version of HTTP, extension
_UNSUPPORTED = frozenset({501, 505, 510})
#: statuses of a service that cannot serve now. An unknown one counts as 500 does (RFC 9110, section 15)
FAILURE_STATUSES = frozenset({429, *range(500, 1000)}) - _UNSUPPORTED


def is_failure(status: int) -> bool:
    """Return True for a status of a service that cannot serve now."""
    return status in FAILURE_STATUSES


def is_rejection(status: int) -> bool:
    """Return True for a status of a service that works, and rejects the request."""
    return (400 <= status < 500 or status in _UNSUPPORTED) and not is_failure(status)


def parse_response(status: int, content: bytes, check: Callable[[Json], T]) -> T:
    """Return the result of `check` for a JSON object. Raises InvalidResponse, also for any exception of `check`."""
    if not 200 <= status < 300:
        raise InvalidResponse(status_text(status), status)
    body = _parse(status, content)
    try:
        return check(body)
    except InvalidResponse:
        raise
    except Exception as error:
        raise InvalidResponse(f"{type(error).__name__}: {error}", status) from error


def client_error_response(status: int, content: bytes) -> ClientErrorResponse:
    """Return the exception for a 4xx, with an empty body if the content is not a JSON object."""
    try:
        return ClientErrorResponse(status, _parse(status, content))
    except InvalidResponse:
        return ClientErrorResponse(status, {})


def _parse(status: int, content: bytes) -> Json:
    try:
        body = json.loads(
            content.decode("utf-8-sig"),
            parse_float=Decimal,
            parse_constant=_reject_constant,
            object_pairs_hook=_unique_members,
        )
    except (ValueError, ArithmeticError, RecursionError) as error:
        raise InvalidResponse(f"not JSON: {error}", status) from error
    if not isinstance(body, dict):
        raise InvalidResponse("not a JSON object", status)
    return body


def _reject_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a number")


def _unique_members(pairs: list[tuple[str, Any]]) -> Json:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("an object has a duplicate member")  # other parsers may use the first of the two
    return members
