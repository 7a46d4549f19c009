"""Errors about a request that can be pickled."""

from typing import Any

import requests
from requests.hooks import default_hooks

from cb.pickling import PortableError


class PortableRequestError(PortableError, requests.exceptions.RequestException):
    """An error about a request. Its pickle leaves out the hooks of the request, and a body that is not in memory.

    Args:
        args: Arguments of the exception.
        request: The request; None where an error was rebuilt from JSON.
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
