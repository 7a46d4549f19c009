"""Errors of requests that reach another process as they are."""

from typing import Any

import requests
from requests.hooks import default_hooks

from cb.pickling import PortableError


class PortableRequestError(PortableError, requests.exceptions.RequestException):
    """An error about a request. It arrives without the request's hooks, and without a body that must be read.

    It can be made without the request, too: JSON brings none to another process.
    """

    def __init__(self, *args: Any, request: requests.PreparedRequest | None = None) -> None:
        super().__init__(*args, request=request)

    def _sent(self) -> dict[str, Any]:
        return {**self.__dict__, "request": _portable(self.request)}


def _portable(request: object) -> requests.PreparedRequest | None:
    if not isinstance(request, requests.PreparedRequest):
        return None
    copied = request.copy()
    copied.hooks = default_hooks()
    if not isinstance(copied.body, str | bytes):
        copied.body = None
    return copied
