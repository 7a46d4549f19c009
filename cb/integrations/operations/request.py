"""Requests as the operators' routes read them, and their ids."""

import re
import secrets
from collections.abc import Iterable
from typing import Protocol

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)


class Headers(Protocol):
    """Headers by name, in upper or lower case. Values of repeated headers are joined by commas."""

    def get(self, name: str, /) -> str | None: ...
    def keys(self) -> Iterable[str]: ...


class Request(Protocol):
    """An HTTP request of any framework."""

    @property
    def client(self) -> str | None:
        """Address of the client; None if it has none, as on a Unix socket."""

    @property
    def http_version(self) -> str:
        """Version of HTTP, such as `1.1`."""

    @property
    def headers(self) -> Headers:
        """Headers."""

    @property
    def path(self) -> str:
        """Path, decoded."""

    @property
    def query(self) -> Iterable[tuple[str, str]]:
        """Parameters of the query, in their order."""


def choose_request_id(received: str | None) -> str:
    """Return the received id if it is well formed, otherwise a new one."""
    return received if received and _REQUEST_ID.fullmatch(received) else secrets.token_hex(8)
