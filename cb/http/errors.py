"""Errors that the clients of requests, httpx and aiohttp have in common."""

from typing import Any

from cb.pickling import PortableError

from .texts import status_text


class FailureStatusError(PortableError):
    """A response whose status counts as a failure.

    Args:
        status: HTTP status.
        retry_after: Wait requested by the dependency, in seconds.
        target: Method and origin of the request.
    """

    def __init__(self, status: int, retry_after: float | None = None, target: str = "") -> None:
        super().__init__(status, retry_after, target)
        #: HTTP status
        self.status = status
        #: wait requested by the dependency, in seconds
        self.retry_after = retry_after
        #: method and origin of the request, as in `GET https://example.com`
        self.target = target

    def __str__(self) -> str:
        return f"{self.target}: {status_text(self.status)}" if self.target else status_text(self.status)


class BodyTooLargeError(PortableError):
    """A response whose body is longer than `max_body_bytes`. It is also an error of the library that sent the request.

    Args:
        reason: Limit, size and remedy, in words.
        target: Method and origin of the request.
        limit: Largest body, in bytes.
        size: Size of the body in bytes; None if the response does not announce it, or if it is compressed.
        request: The request.
    """

    def __init__(
        self,
        reason: str,
        *,
        target: str = "",
        limit: int | None = None,
        size: int | None = None,
        request: Any = None,
    ) -> None:
        super().__init__(reason)
        #: the request
        self.request = request
        #: limit, size and remedy, in words
        self.reason = reason
        #: method and origin of the request, as in `GET https://example.com`
        self.target = target
        #: largest body, in bytes
        self.limit = limit
        #: size of the body in bytes; None if the response does not announce it, or if it is compressed
        self.size = size

    def __str__(self) -> str:
        return f"{self.target}: {self.reason}" if self.target else self.reason
